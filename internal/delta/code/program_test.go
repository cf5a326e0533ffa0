package code

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/match"
)

const (
	before = `package main

import "sort"

type item struct {
	name string
	next *item
}

var table = map[string]func(int) int{"double": func(n int) int { return 2 * n }, "none": func(int) int { return 0 }}

func length(i *item) (n int) {
	for ; i != nil; i = i.next {
		n++
	}
	return n
}

func main() {
	names := []string{"b", "a"}
	sort.Strings(names)
	println(names[0], length(&item{"x", nil}), table["double"](21))
}
`
	more = `
var kept [100]item

//go:noinline
func keep(i int, name string) { kept[i%100] = item{name: name} }

func init() { keep(7, "what is new"); keep(len(table), "and what is not") }
`
)

// build builds a program for a processor with the installed Go.
func build(t *testing.T, processor, source string) []byte {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("DUNLIN_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip("go is not installed")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/program\n", "main.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(tool, "build", "-trimpath", "-ldflags=-s -w", "-o", "program", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+processor, "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "program"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// differs returns how many bytes of a copy are not as the new file has them.
func differs(b, new []byte, c match.Copy) (n int) {
	for i, v := range new[c.New:][:c.Len] {
		if b[i] != v {
			n++
		}
	}
	return n
}

func TestWhatMovesInAProgramIsPredicted(t *testing.T) {
	for _, processor := range []string{"arm64", "amd64", "arm"} {
		t.Run(processor, func(t *testing.T) {
			old, new := build(t, processor, before), build(t, processor, before+more)
			p := open(t, old)
			copies := match.Find(Mask(old), Mask(new))
			l := Lay(p, old, new, copies)
			if l == nil {
				t.Fatal("there is no layout")
			}
			x := p.Predictor(l, copies)
			without, with, covered := 0, 0, int64(0)
			for i, c := range copies {
				b, _ := predict(t, x, old, c, i, 64<<10)
				without += differs(old[c.Old:][:c.Len], new, c)
				with += differs(b, new, c)
				covered += c.Len
			}
			t.Logf("%d bytes of %d in %d copies; wrong: %d, without predicting %d", covered, len(new), len(copies), with, without)
			if covered < int64(len(new))*9/10 || with*10 > without {
				t.Error("that is too few, or too many")
			}
		})
	}
}

func TestALayoutTravels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		file := link(elf.EM_AARCH64, make([]byte, 256), make([]byte, 64))
		p := open(t, file)
		l := &Layout{areas: make([]area, len(p.sections)), on: make([]uint32, len(p.parts))}
		for i := range l.on {
			l.on[i] = rapid.SampledFrom([]uint32{0, ^uint32(0), ^uint32(1 << 3)}).Draw(t, "on")
		}
		for i, s := range p.sections {
			l.areas[i] = area{addr: s.addr, off: s.from, size: s.size, gone: true}
			if rapid.Bool().Draw(t, "there") {
				l.areas[i] = area{off: rapid.Int64().Draw(t, "offset"), size: rapid.Uint64().Draw(t, "size")}
				if s.addr != 0 {
					l.areas[i].addr = rapid.Uint64().Draw(t, "address")
				}
			}
		}
		last := uint32(0)
		for range rapid.IntRange(0, 4).Draw(t, "anchors") {
			from := last + rapid.Uint32Range(0, 300).Draw(t, "gap")
			last = from + rapid.Uint32Range(1, 300).Draw(t, "size")
			l.anchors = append(l.anchors, span{from, last, rapid.Int64().Draw(t, "shift")})
		}
		var b bytes.Buffer
		w := entropy.NewWriter(&b)
		p.Code(w, l)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		l.arrange(p.frame)
		got := p.Code(entropy.NewReader(&b), nil)
		if diff := cmp.Diff(l, got, cmp.AllowUnexported(Layout{}, area{}, span{}, hunk{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestAProgramTakesLittleMemory(t *testing.T) {
	const size = 64 << 20
	text := make([]byte, size)
	for i := 0; i < size; i += 4 {
		le.PutUint32(text[i:], 0x94000000|uint32(i>>4)) // bl
	}
	file := link(elf.EM_AARCH64, text, make([]byte, 64))
	var copies []match.Copy
	for at := int64(0); len(copies) < 200_000; at += 320 {
		copies = append(copies, match.Copy{New: 0x1000 + at, Old: 0x1000 + at*7%(size-320)&^3, Len: 300})
	}
	b, kinds := make([]byte, 300), make([]byte, 300)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p := open(t, file)
	l := newLayout(p.frame, p.frame)
	for range p.parts {
		l.on = append(l.on, ^uint32(0))
	}
	x := p.Predictor(l, copies)
	for i := range copies {
		if i%8 == 0 {
			if err := x.Predict(i, 0, b, kinds); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d KiB", used>>10)
	if used > 8<<20 {
		t.Errorf("%d bytes for %d copies", used, len(copies))
	}
	runtime.KeepAlive(x)
	runtime.KeepAlive(file)
}
