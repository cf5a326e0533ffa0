package librsync

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/bits"
)

const (
	seed = 16      // bytes that a match begins with
	span = 8 << 20 // of the new file that is looked at together
	most = 12      // places of one beginning that are tried
	// behind bounds how far a match is followed backwards: what is farther back had its own chance.
	behind = 4 << 10

	// What things cost in a compressed delta, in sixteenths of a byte.
	literalCost = 9
	copyCost    = 6 * 16
)

// Old is an old file with an index of it. It may be used for one delta at a time.
type Old struct {
	data []byte
	step int      // every so many bytes a place is in the index
	head []uint32 // the first place of a beginning, by its hash; places are counted in steps from 1
	next []uint32 // the place after it
	bits int
}

// NewOld indexes an old file, in 4 bytes for every 8 of it or, if it is large, for every 16 or 32. data must stay as it is.
func NewOld(data []byte) *Old {
	o := &Old{data: data, step: 8}
	for len(data)/o.step > 48<<20 {
		o.step *= 2
	}
	places := 0
	if len(data) >= seed {
		places = (len(data)-seed)/o.step + 1
	}
	o.bits = min(max(bits.Len(uint(places)), 8), 25)
	o.head = make([]uint32, 1<<o.bits)
	o.next = make([]uint32, places+1)
	// The first places come to be tried first: what repeats goes on longest from there.
	for p := places; p >= 1; p-- {
		at := (p - 1) * o.step
		if at >= o.step && uniform(data[at-o.step:at+seed]) {
			continue // of a run of one byte, only where it begins
		}
		h := o.hash(data[at : at+seed])
		o.next[p] = o.head[h]
		o.head[h] = uint32(p)
	}
	return o
}

func uniform(b []byte) bool { return bytes.Equal(b[1:], b[:len(b)-1]) }

func (o *Old) hash(b []byte) uint32 {
	_ = b[seed-1]
	x := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
	y := uint64(b[8]) | uint64(b[9])<<8 | uint64(b[10])<<16 | uint64(b[11])<<24 | uint64(b[12])<<32 | uint64(b[13])<<40 | uint64(b[14])<<48 | uint64(b[15])<<56
	return uint32((x*0x9e3779b97f4a7c15 ^ bits.RotateLeft64(y, 23)) * 0xd6e8feb86659fd93 >> (64 - o.bits))
}

// match says that bytes [from, to) of the span are those of the old file from old on.
type match struct {
	from, to int
	old      int64
}

// Write writes the delta that makes what new has of the old file. It is a function of both. done, if not nil, is called
// with the bytes of new that are dealt with.
func (o *Old) Write(ctx context.Context, w io.Writer, new io.Reader, done func(int64)) error {
	out, err := newWriter(w)
	if err != nil {
		return err
	}
	var (
		buf   = make([]byte, 0, span)
		last  int64 // where the last copy ended in the old file
		total int64
		ended bool
		costs = &plan{}
	)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		for !ended && len(buf) < span {
			n, err := new.Read(buf[len(buf):span])
			buf = buf[:len(buf)+n]
			if errors.Is(err, io.EOF) {
				ended = true
			} else if err != nil {
				return err
			}
		}
		if len(buf) == 0 {
			return out.end()
		}
		matches := o.matches(buf, last)
		use := costs.cheapest(matches, len(buf))
		// What lies at the end of the span may be matched better with what follows.
		stop := len(buf)
		if !ended {
			stop = span / 4 * 3
		}
		at := 0
		for _, m := range use {
			if m.from >= stop {
				break
			}
			if err := out.literal(buf[at:m.from]); err != nil {
				return err
			}
			if err := out.copy(m.old, int64(m.to-m.from)); err != nil {
				return err
			}
			at, last = m.to, m.old+int64(m.to-m.from)
		}
		if at < stop {
			if err := out.literal(buf[at:stop]); err != nil {
				return err
			}
			at = stop
		}
		total += int64(at)
		if done != nil {
			done(total)
		}
		buf = append(buf[:0], buf[at:]...)
	}
}

// matches finds the longest matches of a span, sorted by where they begin. last is where the copy before it ended.
func (o *Old) matches(p []byte, last int64) []match {
	var found []match
	reach := 0 // everything before is in a match
	if n := o.common(p, last); n >= seed {
		found = append(found, match{0, n, last})
		reach = n
	}
	at := max(reach-seed+1, 0)
	for at+seed <= len(p) {
		best := match{}
		tried := 0
		for place := o.head[o.hash(p[at:at+seed])]; place != 0 && tried < most; place = o.next[place] {
			tried++
			old := int64(place-1) * int64(o.step)
			ahead := o.common(p[at:], old)
			if ahead < seed || at+ahead <= reach || at+ahead < best.to {
				continue
			}
			back := 0
			for back < min(at, behind) && int64(back) < old && p[at-back-1] == o.data[old-int64(back)-1] {
				back++
			}
			m := match{at - back, at + ahead, old - int64(back)}
			if m.to > best.to || m.from < best.from {
				best = m
			}
		}
		if best.to <= reach {
			at++
			continue
		}
		// What begins and ends within another is never needed.
		for len(found) > 0 && found[len(found)-1].from >= best.from {
			found = found[:len(found)-1]
		}
		found = append(found, best)
		reach = best.to
		// A match that goes farther is seen from its last bytes, too.
		at = max(at+1, reach-seed-o.step+2)
	}
	return found
}

// common is how many bytes p and the old file from at on have in common.
func (o *Old) common(p []byte, at int64) int {
	q := o.data[min(at, int64(len(o.data))):]
	n := min(len(p), len(q))
	i := 0
	for i+64 <= n && bytes.Equal(p[i:i+64], q[i:i+64]) {
		i += 64
	}
	for i < n && p[i] == q[i] {
		i++
	}
	return i
}

// plan finds the cheapest sequence of copies and literals for a span.
type plan struct {
	cost []uint32 // of everything from a place on
	by   []int32  // the match that is taken there, -1 for a literal
}

// cheapest returns the copies to make, in their order, not overlapping. matches are sorted by where they begin and where
// they end.
func (c *plan) cheapest(matches []match, n int) []match {
	if cap(c.cost) < n+1 {
		c.cost, c.by = make([]uint32, n+1), make([]int32, n+1)
	}
	cost, by := c.cost[:n+1], c.by[:n+1]
	cost[n] = 0
	k := len(matches) - 1
	for i := n - 1; i >= 0; i-- {
		for k >= 0 && matches[k].from > i {
			k--
		}
		cost[i], by[i] = cost[i+1]+literalCost, -1
		if k < 0 || matches[k].to <= i {
			continue
		}
		// The one that began last goes farthest.
		if here := cost[matches[k].to] + copyCost; here < cost[i] {
			cost[i], by[i] = here, int32(k)
		}
	}
	var use []match
	for i := 0; i < n; {
		if by[i] < 0 {
			i++
			continue
		}
		m := matches[by[i]]
		use = append(use, match{i, m.to, m.old + int64(i-m.from)})
		i = m.to
	}
	return use
}

// The costs of a span fit.
const _ = uint32(math.MaxUint32 - span*literalCost - copyCost)
