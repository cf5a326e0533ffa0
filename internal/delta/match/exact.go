package match

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// Exact finds copies that are the same to the byte, between files larger than memory: what formats need that have no
// word for a difference. Costs are in any one unit. Its zero value is for nothing: Min and the costs must be set.
type Exact struct {
	Min     int // shortest copy worth looking for, in bytes; copies shorter than Memory allows may be missed
	Copy    int // cost of a copy
	Literal int // cost of a byte in no copy
	Gap     int // cost of the first of several, besides
	// Memory bounds the index of the old file, in bytes; 0 means 512 MiB.
	Memory int64
}

const (
	blockSize = 1 << 20 // bytes of the new file that are looked at together
	sameGrams = 4       // places in old that are remembered of the same bytes
	pageSize  = 16 << 10
	pages     = 256
	backMax   = 4 << 10 // how far before what was looked up a copy can begin
)

// Find calls yield for the copies of the cheapest way to make new of old, sorted by New and not overlapping. It reads new
// once, in order, and looks at every byte of it; old it reads once in order and then here and there.
func (x Exact) Find(ctx context.Context, old io.ReaderAt, size int64, new io.Reader, yield func(Copy) error) error {
	g, err := x.index(ctx, old, size)
	if err != nil {
		return fmt.Errorf("read the old file: %w", err)
	}
	s := scan{Exact: x, grams: g, yield: yield}
	block := make([]byte, blockSize)
	for {
		n, err := io.ReadFull(new, block)
		if n > 0 {
			if err := s.block(block[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return s.flush()
		}
		if err != nil {
			return fmt.Errorf("read the new file: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// grams are the places in old where some bytes are: those at every step-th place.
type grams struct {
	old   paged
	width int
	step  int64
	slots []uint32 // which of these places, +1, or 0; by hash, in the next free slot
	check []uint8
	// runs are where the longest run is of bytes that repeat themselves every step, by the hash of these.
	runs map[uint64]gramRun
}

type gramRun struct{ at, n int64 }

const runMin = 4 // steps

func (x Exact) index(ctx context.Context, old io.ReaderAt, size int64) (*grams, error) {
	memory := x.Memory
	if memory <= 0 {
		memory = 512 << 20
	}
	step := int64(4)
	for size/step*5*4/3 > memory {
		step *= 2
	}
	g := &grams{old: paged{r: old, size: size, at: make([]int64, pages), pages: make([][]byte, pages)}, step: step, runs: map[uint64]gramRun{}}
	g.width = min(max((x.Min-int(step)+1)/8*8, 8), 32)
	n := size/step*4/3 + 64
	g.slots, g.check = make([]uint32, n), make([]uint8, n)
	var (
		buf  = make([]byte, blockSize+64)
		have int
		last uint64
		run  gramRun
	)
	keep := func() {
		if run.n >= runMin && run.n > g.runs[last].n {
			g.runs[last] = run
		}
	}
	for at := int64(0); at < size; {
		n, err := old.ReadAt(buf[have:min(int64(len(buf)), size-at)], at+int64(have))
		if have += n; err != nil && (err != io.EOF || at+int64(have) < size) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		k := int64(0)
		for ; k+int64(g.width) <= int64(have); k += step {
			h := g.hash(buf[k:])
			if h == last && run.n > 0 {
				run.n++
				continue
			}
			keep()
			last, run = h, gramRun{at + k, 1}
			g.put(h, (at+k)/step)
		}
		if at+int64(have) == size {
			break
		}
		have = copy(buf, buf[k:have])
		at += k
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	keep()
	return g, nil
}

func (g *grams) hash(b []byte) uint64 {
	h := uint64(0)
	for i := 0; i < g.width; i += 8 {
		h = (h ^ binary.LittleEndian.Uint64(b[i:])) * 0x9e3779b97f4a7c15
		h ^= h >> 32
	}
	return h * 0xc2b2ae3d27d4eb4f
}

func (g *grams) slot(h uint64) (int, uint8) {
	i, _ := bits.Mul64(h, uint64(len(g.slots)))
	return int(i), uint8(h)
}

func (g *grams) put(h uint64, place int64) {
	i, check := g.slot(h)
	same := 0
	for ; g.slots[i] != 0; i++ {
		if g.check[i] == check {
			if same++; same == sameGrams {
				return
			}
		}
		if i == len(g.slots)-1 {
			i = -1
		}
	}
	g.slots[i], g.check[i] = uint32(place+1), check
}

// paged reads a file in pages and keeps some.
type paged struct {
	r     io.ReaderAt
	size  int64
	at    []int64 // which page is in each slot, +1
	pages [][]byte
	err   error
}

// from is what is in the file from off on: some of it, and nothing at its end.
func (p *paged) from(off int64) []byte {
	if off < 0 || off >= p.size || p.err != nil {
		return nil
	}
	page := off / pageSize
	slot := page % pages
	if p.at[slot] != page+1 {
		if p.pages[slot] == nil {
			p.pages[slot] = make([]byte, pageSize)
		}
		b := p.pages[slot][:min(pageSize, p.size-page*pageSize)]
		if n, err := p.r.ReadAt(b, page*pageSize); n < len(b) {
			if p.at[slot] = 0; err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			p.err = fmt.Errorf("read the old file: %w", err)
			return nil
		}
		p.at[slot] = page + 1
		p.pages[slot] = b
	}
	return p.pages[slot][off%pageSize:]
}

// ahead is how many bytes of b are in the file from off on.
func (p *paged) ahead(off int64, b []byte) int {
	n := 0
	for n < len(b) {
		o := p.from(off + int64(n))
		k := common(o, b[n:])
		if n += k; k == 0 || k < len(o) {
			break
		}
	}
	return n
}

// back is how many bytes of b, from its end backwards, are in the file before off.
func (p *paged) back(off int64, b []byte) int {
	n := 0
	for n < len(b) && off-int64(n) > 0 {
		at := off - int64(n) - 1
		page := at / pageSize * pageSize
		o := p.from(page)
		if o == nil {
			break
		}
		for i := at - page; i >= 0; i-- {
			if n == len(b) || o[i] != b[len(b)-1-n] {
				return n
			}
			n++
		}
	}
	return n
}

// interval is a part of a block that is in old, at a shift.
type interval struct {
	from, to int
	shift    int64 // from a place in new to the place in old
}

// scan goes through new.
type scan struct {
	Exact
	*grams
	yield func(Copy) error
	at    int64 // of the block, in new
	open  Copy  // not yet yielded: it may go on
	found []interval
	cost  []int64
	by    []int32 // which interval ends here; -1: a byte in no copy
}

// block finds the cheapest way to make a block. It goes on where the last one ended.
func (s *scan) block(b []byte) error {
	s.find(b)
	if s.old.err != nil {
		return s.old.err
	}
	// What comes later never costs less, so of all the copies that reach a place the one that begins first is best.
	n := len(b)
	if len(s.cost) < n+1 {
		s.cost, s.by = make([]int64, n+1), make([]int32, n+1)
	}
	s.cost[0] = 0
	k := 0
	gap := false // the byte before is in no copy
	for i := 1; i <= n; i++ {
		c := s.cost[i-1] + int64(s.Literal)
		if !gap {
			c += int64(s.Gap)
		}
		s.cost[i], s.by[i], gap = c, -1, true
		for k < len(s.found) && s.found[k].to < i {
			k++
		}
		if k == len(s.found) || s.found[k].from >= i {
			continue
		}
		f := s.found[k]
		c = s.cost[f.from] + int64(s.Copy)
		if f.from == 0 && s.goesOn(f) {
			c = 0
		}
		if c <= s.cost[i] {
			s.cost[i], s.by[i], gap = c, int32(k), false
		}
	}
	var way []interval
	for i := n; i > 0; {
		if s.by[i] < 0 {
			i--
			continue
		}
		f := s.found[s.by[i]]
		way = append(way, interval{f.from, i, f.shift})
		i = f.from
	}
	for i := len(way) - 1; i >= 0; i-- {
		f := way[i]
		if f.from == 0 && s.goesOn(f) {
			s.open.Len += int64(f.to)
			continue
		}
		if err := s.flush(); err != nil {
			return err
		}
		s.open = Copy{s.at + int64(f.from), s.at + int64(f.from) + f.shift, int64(f.to - f.from)}
	}
	s.at += int64(n)
	return nil
}

// goesOn reports whether a copy at the beginning of the block continues the last one.
func (s *scan) goesOn(f interval) bool {
	return s.open.Len > 0 && s.open.New+s.open.Len == s.at && s.open.Old-s.open.New == f.shift
}

func (s *scan) flush() error {
	c := s.open
	s.open = Copy{}
	if c.Len == 0 {
		return nil
	}
	return s.yield(c)
}

// find finds the intervals of a block, sorted by where they begin.
func (s *scan) find(b []byte) {
	s.found = s.found[:0]
	if s.open.Len > 0 && s.open.New+s.open.Len == s.at {
		shift := s.open.Old - s.open.New
		if n := s.old.ahead(s.at+shift, b); n > 0 {
			s.found = append(s.found, interval{0, n, shift})
		}
	}
	reach := 0 // of what was found
	for _, f := range s.found {
		reach = f.to
	}
	for q := max(reach-s.width+1, 0); q+s.width <= len(b); {
		h := s.hash(b[q:])
		// The one that reaches farthest, and among these the one that begins first.
		best := interval{}
		try := func(o int64) {
			shift := o - s.at - int64(q)
			n := s.old.ahead(o, b[q:])
			if n < s.width || q+n <= reach || q+n < best.to {
				return
			}
			f := interval{q - s.old.back(o, b[max(0, q-backMax):q]), q + n, shift}
			if f.to > best.to || f.from < best.from {
				best = f
			}
		}
		i, check := s.slot(h)
		hit := false
		for ; s.slots[i] != 0; i++ {
			if s.check[i] == check {
				hit = true
				try(int64(s.slots[i]-1) * s.step)
			}
			if i == len(s.slots)-1 {
				i = -1
			}
		}
		if hit {
			if r, ok := s.runs[h]; ok {
				try(r.at)
			}
		}
		if best.to <= reach || best.to-best.from < s.Min && best.from > 0 && best.to < len(b) {
			q++
			continue
		}
		reach = best.to
		// Those that begin later and end sooner are of no use any more.
		k := len(s.found)
		for k > 0 && s.found[k-1].from >= best.from {
			k--
		}
		s.found = append(s.found[:k], best)
		q = max(q+1, reach-s.width+1)
	}
}
