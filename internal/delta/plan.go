package delta

import (
	"bytes"
	"cmp"
	"io"
	"slices"

	"github.com/dunlin/dunlin/internal/delta/code"
	"github.com/dunlin/dunlin/internal/delta/match"
	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// defaultMemory is what an encoder may use for the files at hand, if nobody says.
const defaultMemory = 768 << 20

// searching is how many bytes it takes to look for copies in a byte of an old file, roughly.
const searching = 8

// plan is how patched contents are made.
type plan struct {
	copies []match.Copy
	layout *code.Layout
	steps  []step // instead of copies
}

// plan compares contents with their sources. program is what is known of the first of them, or nil.
func (e *encoder) plan(program *code.Program, old *joined, body io.ReaderAt, size int64) (plan, error) {
	memory := e.o.Memory
	if memory <= 0 {
		memory = defaultMemory
	}
	var out plan
	if size == 0 {
		return out, nil
	}
	if old.size+size > memory/2 {
		var err error
		out.copies, err = find(reading(old), reading(body), old.size, size, memory/searching)
		out.copies = fewer(atSeams(out.copies, old.ends), copiesLimit)
		return out, err
	}
	limit := (memory - old.size - size) / searching
	o, err := load(old, nil, old.size)
	if err != nil {
		return out, err
	}
	if program == nil {
		n, err := load(body, nil, size)
		if err != nil {
			return out, err
		}
		if out.copies, err = find(slicing(o), slicing(n), old.size, size, limit); err != nil {
			return out, err
		}
		out.copies = atSeams(out.copies, old.ends)
		if isText(n) {
			out.steps = toScript(o, n, out.copies)
		}
		out.copies = fewer(out.copies, copiesLimit)
		return out, nil
	}
	// The numbers in programs hide what is alike. Files with and without them together take too much memory, so they are
	// read twice.
	raw := o
	if o = code.Mask(o[:old.ends[0]]); &o[0] == &raw[0] {
		raw = nil
	} else if rest := raw[old.ends[0]:]; len(rest) > 0 {
		o = append(o, rest...)
	}
	if raw, err = load(body, raw, size); err != nil {
		return out, err
	}
	n := code.Mask(raw)
	if &n[0] == &raw[0] {
		raw = nil
	}
	if out.copies, err = find(slicing(o), slicing(n), old.size, size, limit); err != nil {
		return out, err
	}
	out.copies = fewer(atSeams(out.copies, old.ends), copiesLimit)
	if o, err = load(old, o, old.ends[0]); err != nil {
		return out, err
	}
	if n, err = load(body, n, size); err != nil {
		return out, err
	}
	first, _ := firstOf(out.copies, old.ends)
	out.layout = code.Lay(program, o, n, first)
	return out, nil
}

// load reads so many bytes, to where other ones were that are not needed any more, if they fit.
func load(r io.ReaderAt, b []byte, size int64) ([]byte, error) {
	if int64(cap(b)) < size {
		b = make([]byte, size)
	}
	b = b[:size]
	return b, tarfile.ReadFull(r, b, 0)
}

// part returns a part of a file.
type part func(at, n int64) ([]byte, error)

func reading(r io.ReaderAt) part {
	return func(at, n int64) ([]byte, error) {
		b := make([]byte, n)
		return b, tarfile.ReadFull(r, b, at)
	}
}

func slicing(b []byte) part { return func(at, n int64) ([]byte, error) { return b[at : at+n], nil } }

// isText reports whether a file looks like text. The zeros that the header of something opened has do not count.
func isText(b []byte) bool {
	b = b[:min(len(b), 8<<10)]
	return bytes.Count(b, []byte{0}) <= len(b)/64
}

// find finds copies, in windows of so many bytes of the old file.
func find(old, new part, oldSize, newSize, limit int64) ([]match.Copy, error) {
	limit = max(limit, 1<<20)
	var out []match.Copy
	step := newSize
	if oldSize > limit || newSize > limit {
		step = limit / 2
	}
	for at := int64(0); at < newSize; at += step {
		n := min(step, newSize-at)
		// What is in the middle of the one file is likely to be in the middle of the other.
		m := min(limit, oldSize)
		middle := int64(float64(at+n/2) / float64(newSize) * float64(oldSize))
		from := min(max(middle-m/2, 0), oldSize-m)
		b, err := new(at, n)
		if err != nil {
			return nil, err
		}
		a, err := old(from, m)
		if err != nil {
			return nil, err
		}
		for _, c := range match.Find(a, b) {
			c.New, c.Old = c.New+at, c.Old+from
			if k := len(out) - 1; k >= 0 && out[k].New+out[k].Len == c.New && out[k].Old+out[k].Len == c.Old {
				out[k].Len += c.Len
				continue
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// atSeams cuts copies so that each is of one old file.
func atSeams(copies []match.Copy, ends []int64) []match.Copy {
	if len(ends) < 2 {
		return copies
	}
	var out []match.Copy
	for _, c := range copies {
		for _, end := range ends {
			if n := end - c.Old; n > 0 && n < c.Len {
				out = append(out, match.Copy{New: c.New, Old: c.Old, Len: n})
				c = match.Copy{New: c.New + n, Old: end, Len: c.Len - n}
			}
		}
		out = append(out, c)
	}
	return out
}

// fewer leaves out the shortest copies if there are too many.
func fewer(copies []match.Copy, most int) []match.Copy {
	if len(copies) <= most {
		return copies
	}
	sizes := make([]int64, len(copies))
	for i, c := range copies {
		sizes[i] = c.Len
	}
	slices.SortFunc(sizes, func(a, b int64) int { return cmp.Compare(b, a) })
	return slices.DeleteFunc(copies, func(c match.Copy) bool { return c.Len <= sizes[most] })
}
