package code

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/match"
)

// everything is a Go program with some of everything that has a table.
const everything = `package main

import (
	"errors"
	"fmt"
	"os"
	"sort"
)

type shape interface {
	area() float64
	Name() string
}

type square struct{ side float64 }
type circle struct {
	radius float64
	tags   map[string][]int
}

func (s square) area() float64  { return s.side * s.side }
func (s square) Name() string   { return "square" }
func (c *circle) area() float64 { return c.radius * 3 }
func (c *circle) Name() string  { return "circle" }

func word(n int) string {
	switch n {
	case 0:
		return "none"
	case 1:
		return "one"
	case 2:
		return "two"
	case 3:
		return "three"
	case 4:
		return "four"
	case 5:
		return "five"
	case 6:
		return "six"
	case 7:
		return "seven"
	case 8:
		return "eight"
	}
	return fmt.Sprint(n)
}

func main() {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintln(os.Stderr, errors.New("oops"), r)
		}
	}()
	all := []shape{square{2}, &circle{1, map[string][]int{"a": {1}}}}
	sort.Slice(all, func(i, j int) bool { return all[i].area() < all[j].area() })
	for i, s := range all {
		fmt.Println(word(i+len(os.Args)), s.Name(), s.area())
	}
}
`

// goProgram builds the program for an architecture.
func goProgram(t *testing.T, arch string, args ...string) []byte {
	t.Helper()
	return compile(t, everything, arch, args...)
}

// compile builds a program of one file.
func compile(t *testing.T, source, arch string, args ...string) []byte {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("DUNLIN_TEST_REQUIRE") != "" {
			t.Fatal("there is no go command here")
		}
		t.Skip("there is no go command here")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": source, "go.mod": "module example.com/program\n\ngo 1.16\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "program")
	c := exec.Command(tool, append(append([]string{"build", "-trimpath", "-o", out}, args...), ".")...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// allFields opens a program, and finds all its fields.
func allFields(t *testing.T, b []byte) (*Program, map[string][]Field) {
	t.Helper()
	p, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil || p == nil {
		t.Fatal("not known to be a program", err)
	}
	all := map[string][]Field{}
	for n, s := range p.parts {
		p.fields(n, s.from, s.to, func(f Field) { all[s.name] = append(all[s.name], f) })
	}
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p, all
}

// judge is what the standard library knows of functions and lines.
func judge(t *testing.T, f *elf.File) *gosym.Table {
	t.Helper()
	var data []byte
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := f.Section(name); s != nil {
			var err error
			if data, err = s.Data(); err != nil {
				t.Fatal(err)
			}
		}
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, f.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

var builds = []struct {
	arch string
	args []string
}{
	{"amd64", nil},
	{"amd64", []string{"-buildmode=pie"}},
	{"arm64", []string{"-ldflags=-s -w"}},
	{"arm", []string{"-ldflags=-s -w"}},
}

// The tables of Go programs of several kinds are read as the standard library reads them.
func TestGoTablesAreReadAsTheLinkerWroteThem(t *testing.T) {
	for _, x := range builds {
		t.Run(fmt.Sprint(x.arch, x.args), func(t *testing.T) {
			b := goProgram(t, x.arch, x.args...)
			f, err := elf.NewFile(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			p, all := allFields(t, b)
			g := findGolang(p.frame)
			if g == nil {
				t.Fatal("no Go program")
			}
			g.prepare()
			known := judge(t, f)
			t.Run("functions", func(t *testing.T) { checkFunctions(t, known, all) })
			t.Run("lines", func(t *testing.T) { checkLines(t, known, g, b) })
			t.Run("types", func(t *testing.T) { checkTypes(t, g, all) })
		})
	}
}

// checkFunctions looks for every function that the judge knows: in the table of functions, and among the descriptions.
func checkFunctions(t *testing.T, judge *gosym.Table, all map[string][]Field) {
	entries, described := map[place]bool{}, map[place]bool{}
	for _, x := range all["go.functions"] {
		entries[x.Target] = true
	}
	for _, x := range all["go.descriptions"] {
		described[x.Target] = true
	}
	if len(judge.Funcs) < 500 {
		t.Fatal("the judge knows of", len(judge.Funcs), "functions alone")
	}
	for _, fn := range judge.Funcs {
		if !entries[fn.Entry] || !described[fn.Entry] {
			t.Fatalf("%s at %#x: in the table %v, described %v", fn.Name, fn.Entry, entries[fn.Entry], described[fn.Entry])
		}
	}
	if len(all["go.functions"]) != 2*len(judge.Funcs) {
		t.Errorf("%d fields for %d functions", len(all["go.functions"]), len(judge.Funcs))
	}
	if len(all["go.funcdata"]) == 0 || len(all["go.units"]) == 0 {
		t.Error("there are no fields of functions' data, or of files")
	}
}

// checkLines compares the line and the file of the places in the code where they change, in one function of four.
func checkLines(t *testing.T, judge *gosym.Table, g *golang, b []byte) {
	if g.since < 20 {
		t.Skip("this Go does not tell where functions begin")
	}
	checked := 0
	g.eachDescription(func(d description) {
		off := g.u32(d.tail + 20)
		if off == 0 || d.at/8%4 != 0 {
			return
		}
		r := g.table(off, g.functions)
		for begin := uint64(0); r.next(); begin = r.pc {
			file, number, _ := judge.PCToLine(d.entry + begin)
			checked++
			if int64(number) != r.value && file != "" {
				t.Fatalf("line %d at %#x of %s; the judge says %d", r.value, d.entry+begin, file, number)
			}
		}
		if file, _, _ := judge.PCToLine(d.entry); file != "" {
			at := g.files + int64(g.fileOf(d))
			if !bytes.HasPrefix(b[at:], append([]byte(file), 0)) {
				t.Fatalf("the function at %#x is in %s, not in %.40q", d.entry, file, b[at:])
			}
		}
	})
	if checked < 5000 {
		t.Error("there were", checked, "lines alone")
	}
}

// checkTypes looks for every type that the linker lists: those that have no name.
func checkTypes(t *testing.T, g *golang, all map[string][]Field) {
	names := map[int64]bool{}
	for _, x := range all["go.types"] {
		names[x.At] = true
	}
	if len(all["go.typelinks"]) < 50 {
		t.Fatal("the linker lists", len(all["go.typelinks"]), "types alone")
	}
	for _, x := range all["go.typelinks"] {
		at, ok := g.offset(x.Target)
		if !ok || !names[at+4*g.word+8] {
			t.Fatalf("the type at %#x is not found", x.Target)
		}
	}
}

// A program whose sections have no names is known as well, by what the tables begin with.
func TestGoTablesAreFoundWithoutNames(t *testing.T) {
	b := goProgram(t, "arm64", "-ldflags=-s -w")
	_, named := allFields(t, b)
	clear(b[60:64]) // how many section headers there are, and which has the names
	_, bare := allFields(t, b)
	if n := len(bare["go.functions"]); n == 0 || n != len(named["go.functions"]) || len(bare["go.types"]) != len(named["go.types"]) {
		t.Errorf("%d fields of functions and %d of types; with names %d and %d", n, len(bare["go.types"]), len(named["go.functions"]), len(named["go.types"]))
	}
}

// Where the functions of a program have not moved, the table by which they are found is what it was; where they have, it
// is what the linker would have made.
func TestGoBucketsFollowFromTheFunctions(t *testing.T) {
	b := goProgram(t, "amd64", "-ldflags=-s -w")
	p, _ := allFields(t, b)
	for _, x := range p.parts {
		whole, ok := x.table.(computed)
		if !ok {
			continue
		}
		l := newLayout(p.frame, p.frame)
		m := newMoves(p.frame, l, nil)
		got := make([]byte, x.to-x.from)
		whole.foretell(m, x.from, p.place(x.from), got, make([]byte, len(got)))
		// The last bucket is not whole, and what follows the last function is nobody's.
		if n := len(got) - bucketSize; n < bucketSize || !bytes.Equal(got[:n], b[x.from:][:n]) {
			t.Error("the table is another one")
		}
		return
	}
	t.Error("there is no such table")
}

// What is read of a table does not depend on the pieces that it is read in.
func TestFieldsAreTheSameInAnyPieces(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		p, all := allFields(t, goProgram(t, arch))
		whole := map[int64]Field{}
		for _, fields := range all {
			for _, f := range fields {
				whole[f.At] = f
			}
		}
		rapid.Check(t, func(t *rapid.T) {
			n := rapid.IntRange(0, len(p.parts)-1).Draw(t, "part")
			s := p.parts[n]
			from := rapid.Int64Range(s.from, s.to).Draw(t, "from")
			to := min(from+rapid.Int64Range(0, 4000).Draw(t, "length"), s.to)
			got := map[int64]bool{}
			p.fields(n, from, to, func(f Field) {
				if f != whole[f.At] {
					t.Fatalf("%s: %+v, and not %+v", s.name, f, whole[f.At])
				}
				got[f.At] = true
			})
			for at := from; at < to; at++ {
				if f, ok := whole[at]; ok && f.within(from, to) && !got[at] {
					t.Fatalf("%s: %+v is missing from %#x to %#x", s.name, f, from, to)
				}
			}
		})
	}
}

// The tables that are no code give the same fields in chunks of any size.
func TestTablesDoNotDependOnTheirChunks(t *testing.T) {
	for _, b := range [][]byte{goProgram(t, "amd64"), installed(t)} {
		p, _ := allFields(t, b)
		for i, s := range p.parts {
			if strings.HasPrefix(s.name, "code ") {
				continue
			}
			whole, chunks := 0, 0
			s.table.fields(s.from, s.to, func(f Field) {
				if f.within(s.from, s.to) {
					whole++
				}
			})
			p.fields(i, s.from, s.to, func(Field) { chunks++ })
			if whole != chunks {
				t.Errorf("%s has %d fields at once and %d in chunks", s.name, whole, chunks)
			}
		}
	}
}

// Where lines were added above a function, the tables of its lines are what they are in the new program.
func TestLinesBelowNewOnesArePredicted(t *testing.T) {
	more := strings.Replace(everything, "func word", "// A comment,\n// and another one.\n\nfunc word", 1)
	old, new := goProgram(t, "arm64", "-ldflags=-s -w"), compile(t, more, "arm64", "-ldflags=-s -w")
	p, _ := allFields(t, old)
	copies := match.Find(Mask(old), Mask(new))
	l := Lay(p, old, new, copies)
	if l == nil || len(l.lines) == 0 {
		t.Fatal("no lines have moved")
	}
	x := p.Predictor(l, copies)
	moved, wrong := 0, 0
	for i, c := range copies {
		b, _ := predict(t, x, old, c, i, 64<<10)
		for n, s := range p.parts {
			if s.name != "go.lines" && s.name != "go.descriptions" {
				continue
			}
			p.fields(n, max(s.from, c.Old), min(s.to, c.Old+c.Len), func(f Field) {
				if !isLine(f.Target) {
					return
				}
				at := f.At - c.Old
				was, is := f.Kind.load(old[f.At:]), f.Kind.load(new[c.New+at:])
				if was != is {
					moved++
				}
				if f.Kind.load(b[at:]) != is {
					wrong++
				}
			})
		}
	}
	if moved < 10 || wrong*4 > moved {
		t.Errorf("%d of %d lines are wrong", wrong, moved)
	}
}
