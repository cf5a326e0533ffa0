// Deltabench turns what scripts/bench-delta measured into the tables of docs/performance.md. It owns what the tables say
// and how ratios and medians are taken; it measures nothing.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	begin = "<!-- bench-delta: what follows is written by `make bench-delta` -->"
	end   = "<!-- bench-delta: end -->"
)

// The methods, in the order of their columns.
var (
	peers = []method{
		{"pull", "`docker pull`"}, {"zstd19", "zstd -19"}, {"balena", "balenaEngine"}, {"rdiff", "rdiff"}, {"xdelta3", "xdelta3"},
		{"bsdiff", "bsdiff"}, {"zstd19-patch", "zstd -19 patch"}, {"zstd22-patch", "zstd -22 patch"},
	}
	own   = method{"dunlin", "**dunlin**"}
	stock = method{"librsync", "dunlin, for stock devices"}
)

type method struct{ file, title string }

// cost is what one method took for one pair.
type cost struct {
	bytes                     int64
	createCPU, applyCPU       float64 // seconds; negative where it was not measured
	createMemory, applyMemory int64   // KiB
}

// pair is what was measured of a pair of images. A method that could not be run is not in costs.
type pair struct {
	name     string
	old, new int64 // bytes
	costs    map[string]cost
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: deltabench RESULTS PAGE")
	}
	pairs, err := read(args[0])
	if err != nil {
		return err
	}
	tables := render(pairs)
	if err := replace(args[1], tables); err != nil {
		return err
	}
	fmt.Print(tables)
	return nil
}

// read reads RESULTS/PAIR/METHOD.
func read(dir string) ([]pair, error) {
	folders, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var pairs []pair
	for _, f := range folders {
		p := pair{name: f.Name(), costs: map[string]cost{}}
		sizes, err := os.ReadFile(filepath.Join(dir, p.name, "sizes"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Sscan(string(sizes), &p.old, &p.new); err != nil {
			return nil, fmt.Errorf("read the sizes of %s: %w", p.name, err)
		}
		for _, m := range slices.Concat(peers, []method{own, stock}) {
			b, err := os.ReadFile(filepath.Join(dir, p.name, m.file))
			if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
				continue
			}
			if err != nil {
				return nil, err
			}
			if p.costs[m.file], err = parse(string(b)); err != nil {
				return nil, fmt.Errorf("read what %s took for %s: %w", m.file, p.name, err)
			}
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// parse reads bytes, seconds and KiB to create, seconds and KiB to apply; "-" is not measured.
func parse(line string) (cost, error) {
	f := strings.Fields(line)
	if len(f) != 5 {
		return cost{}, fmt.Errorf("%q has %d fields and not 5", line, len(f))
	}
	var c cost
	var errs [5]error
	c.bytes, errs[0] = strconv.ParseInt(f[0], 10, 64)
	c.createCPU, errs[1] = strconv.ParseFloat(f[1], 64)
	c.createMemory, errs[2] = strconv.ParseInt(f[2], 10, 64)
	if f[3] == "-" {
		c.applyCPU = -1
		return c, errors.Join(errs[:]...)
	}
	c.applyCPU, errs[3] = strconv.ParseFloat(f[3], 64)
	c.applyMemory, errs[4] = strconv.ParseInt(f[4], 10, 64)
	return c, errors.Join(errs[:]...)
}

// best is the smallest of the peers.
func (p pair) best() (bytes int64, ok bool) {
	for _, m := range peers {
		if c, measured := p.costs[m.file]; measured && (!ok || c.bytes < bytes) {
			bytes, ok = c.bytes, true
		}
	}
	return bytes, ok
}

// ratio is a method's bytes in those of its measure, if both are known.
func (p pair) ratio(of method, to int64, known bool) (float64, bool) {
	c, ok := p.costs[of.file]
	return float64(c.bytes) / float64(max(1, to)), ok && known
}

// comparison is a column of ratios.
type comparison struct {
	title string
	of    func(pair) (float64, bool)
}

func comparisons() []comparison {
	balena := func(p pair) (int64, bool) {
		c, ok := p.costs["balena"]
		return c.bytes, ok
	}
	return []comparison{
		{"of the best peer", func(p pair) (float64, bool) {
			b, ok := p.best()
			return p.ratio(own, b, ok)
		}},
		{"of balenaEngine", func(p pair) (float64, bool) {
			b, ok := balena(p)
			return p.ratio(own, b, ok)
		}},
		{"for stock devices, of balenaEngine", func(p pair) (float64, bool) {
			b, ok := balena(p)
			return p.ratio(stock, b, ok)
		}},
	}
}

// render makes the tables. Pairs are in the order of their names.
func render(pairs []pair) string {
	pairs = slices.SortedFunc(slices.Values(pairs), func(a, b pair) int { return cmp.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString("Bytes on the wire, in KiB:\n\n")
	header := []string{"pair", "changed layers"}
	for _, m := range slices.Concat(peers, []method{own, stock}) {
		header = append(header, m.title)
	}
	row(&b, header)
	ruler(&b, len(header))
	for _, p := range pairs {
		cells := []string{p.name, kib(p.new)}
		for _, m := range slices.Concat(peers, []method{own, stock}) {
			cells = append(cells, cell(p, m, func(c cost) string { return kib(c.bytes) }))
		}
		row(&b, cells)
	}

	b.WriteString("\nRatios of these:\n\n")
	header = []string{"pair"}
	for _, c := range comparisons() {
		header = append(header, "dunlin "+c.title)
	}
	row(&b, header)
	ruler(&b, len(header))
	all := make([][]float64, len(comparisons()))
	for _, p := range pairs {
		cells := []string{p.name}
		for i, c := range comparisons() {
			r, ok := c.of(p)
			if ok {
				all[i] = append(all[i], r)
			}
			cells = append(cells, ratioText(r, ok))
		}
		row(&b, cells)
	}
	cells := []string{"**median**"}
	for _, ratios := range all {
		m, ok := median(ratios)
		cells = append(cells, "**"+ratioText(m, ok)+"**")
	}
	row(&b, cells)

	timed := []method{own, {"pull", "`docker pull`"}, {"balena", "balenaEngine"}, {"xdelta3", "xdelta3"}, {"zstd22-patch", "zstd -22 patch"}}
	for _, t := range []struct {
		title string
		of    func(cost) string
	}{
		{"Making it: seconds of CPU / MiB of memory", func(c cost) string { return effort(c.createCPU, c.createMemory) }},
		{"Applying it: seconds of CPU / MiB of memory", func(c cost) string { return effort(c.applyCPU, c.applyMemory) }},
	} {
		b.WriteString("\n" + t.title + ":\n\n")
		header = []string{"pair"}
		for _, m := range timed {
			header = append(header, m.title)
		}
		row(&b, header)
		ruler(&b, len(header))
		for _, p := range pairs {
			cells := []string{p.name}
			for _, m := range timed {
				cells = append(cells, cell(p, m, t.of))
			}
			row(&b, cells)
		}
	}
	return b.String()
}

func cell(p pair, m method, of func(cost) string) string {
	c, ok := p.costs[m.file]
	if !ok {
		return "-"
	}
	return of(c)
}

func kib(bytes int64) string {
	k := float64(bytes) / 1024
	digits := 0
	switch {
	case k < 1:
		digits = 2
	case k < 100:
		digits = 1
	}
	return strconv.FormatFloat(k, 'f', digits, 64)
}

func effort(cpu float64, memory int64) string {
	if cpu < 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f / %d", cpu, (memory+512)>>10)
}

func ratioText(r float64, ok bool) string {
	if !ok {
		return "-"
	}
	digits := 2
	if r < 0.1 {
		digits = 3
	}
	return strconv.FormatFloat(r, 'f', digits, 64)
}

func median(of []float64) (float64, bool) {
	if len(of) == 0 {
		return 0, false
	}
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2, true
}

func row(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func ruler(b *strings.Builder, n int) { b.WriteString("|---|" + strings.Repeat("--:|", n-1) + "\n") }

// replace writes the tables between the marks of a page.
func replace(page, tables string) error {
	b, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(b), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("%s has not the two marks between which the tables go: %s and %s", page, begin, end)
	}
	return os.WriteFile(page, []byte(before+begin+"\n\n"+tables+"\n"+end+after), 0o644)
}
