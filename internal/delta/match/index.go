package match

import (
	"io"
	"math/bits"
	"slices"
)

// The shingles of an index: every run of shingle bytes whose hash ends in so many zeros.
const (
	shingle = 24
	coarse  = 6       // in files, one in 64
	fine    = 3       // and in small ones, which would have none, one in 8
	small   = 8 << 10 // bytes
)

// MaxSources is the most files that Sources returns.
const MaxSources = 4

// Index knows which bytes are in which of many files, by samples of their content: what was moved from one file to
// another is found there. Its memory is bounded however much is added, and what it answers depends on nothing but what
// was added, in which order. It may not be used concurrently.
type Index struct {
	slots   []uint64 // hash << fileBits | file+1, or 0; by hash, in the next free place
	used    int
	coarse  int // how many zeros samples of large and of small files have
	fine    int
	samples []uint64 // of the content at hand
}

const (
	fileBits = 24
	// sameMax is how many files a sample is remembered of. What is in more of them tells nothing.
	sameMax = 8
)

// Vote is a file that has what was asked for, and how much of it, roughly in bytes.
type Vote struct{ File, Score int }

// NewIndex returns an index for files of about size bytes in all. It takes up to a quarter of that, and no more than
// 64 MiB.
func NewIndex(size int64) *Index {
	n := 1 << 10
	for int64(n)*2 <= size/32 && n < 1<<23 {
		n <<= 1
	}
	return &Index{slots: make([]uint64, n), coarse: coarse, fine: fine}
}

// roll is a hash of the last shingle bytes.
type roll struct {
	in, out [256]uint64
}

const rollBy = 0x9e3779b97f4a7c15

var rolling = func() (r roll) {
	x, far := uint64(1), uint64(1)
	for range shingle {
		far *= rollBy
	}
	for i := range r.in {
		// xorshift: any odd-looking numbers serve.
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		r.in[i] = x*0xc2b2ae3d27d4eb4f | 1
		r.out[i] = r.in[i] * far
	}
	return r
}()

// sampler picks the samples of a file that comes in pieces.
type sampler struct {
	h    uint64
	tail [shingle]byte
	n    int64
}

// write adds to out the hashes of the shingles that end in p and in so many zeros.
func (s *sampler) write(out []uint64, p []byte, zeros int) []uint64 {
	mask := uint64(1)<<zeros - 1
	h := s.h
	for i, b := range p {
		h = h*rollBy + rolling.in[b]
		at := int((s.n + int64(i)) % shingle)
		if s.n+int64(i) >= shingle {
			h -= rolling.out[s.tail[at]]
		}
		s.tail[at] = b
		if s.n+int64(i) < shingle-1 {
			continue
		}
		if x := (h ^ h>>32) * 0xff51afd7ed558ccd >> fileBits; x&mask == 0 {
			if len(out) == 0 || out[len(out)-1] != x {
				out = append(out, x)
			}
		}
	}
	s.h = h
	s.n += int64(len(p))
	return out
}

func (x *Index) zeros(size int64) int {
	if size <= small {
		return x.fine
	}
	return x.coarse
}

// Add adds a file of size bytes. Files are numbered by the caller, from 0 to less than 1<<24 - 1, and are better added in
// the order of their numbers. An error is of reading; what was read until then is added.
func (x *Index) Add(file int, size int64, content io.Reader) error {
	var s sampler
	buf := make([]byte, 64<<10)
	for {
		n, err := content.Read(buf)
		x.samples = s.write(x.samples[:0], buf[:n], x.zeros(size))
		for _, h := range x.samples {
			x.put(h, file)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (x *Index) home(h uint64) int {
	return int(h * rollBy >> (64 - bits.Len(uint(len(x.slots)-1))))
}

func (x *Index) put(h uint64, file int) {
	if bits.TrailingZeros64(h) < x.fine {
		return
	}
	entry := h<<fileBits | uint64(file+1)
	same := 0
	i := x.home(h)
	for ; x.slots[i] != 0; i = (i + 1) & (len(x.slots) - 1) {
		if x.slots[i] == entry {
			return
		}
		if x.slots[i]>>fileBits == h {
			if same++; same > sameMax {
				return
			}
		}
	}
	x.slots[i] = entry
	if x.used++; x.used > len(x.slots)/8*7 {
		x.thin()
	}
}

// thin forgets every other sample, of small files first.
func (x *Index) thin() {
	x.fine++
	x.coarse = max(x.coarse, x.fine)
	old := x.slots
	x.slots = make([]uint64, len(old))
	x.used = 0
	for _, e := range old {
		if e != 0 && bits.TrailingZeros64(e>>fileBits) >= x.fine {
			x.put(e>>fileBits, int(e&(1<<fileBits-1))-1)
		}
	}
}

// files adds to out the files that have a sample.
func (x *Index) files(out []int32, h uint64) []int32 {
	for i := x.home(h); x.slots[i] != 0; i = (i + 1) & (len(x.slots) - 1) {
		if x.slots[i]>>fileBits == h {
			out = append(out, int32(x.slots[i]&(1<<fileBits-1))-1)
		}
	}
	return out
}

// share is what a file has of a content, in samples, which are worth the less the more files have them.
type share struct{ count, all, coarse int }

const sampleWorth = 64

// bytes is about how many bytes these samples stand for.
func (x *Index) bytes(c share) int {
	if c.all == c.coarse { // a large file, of which there are no others
		return c.all << x.coarse / sampleWorth
	}
	return c.all << x.fine / sampleWorth
}

// Sources returns the files that have most of a content, the best first: each adds more than any other to what those
// before it have.
func (x *Index) Sources(content []byte) []Vote {
	var s sampler
	samples := s.write(nil, content, x.zeros(int64(len(content))))
	slices.Sort(samples)
	samples = slices.Compact(samples)
	// have[from[i]:from[i+1]] are the files that have sample i.
	from := make([]int, 1, len(samples)+1)
	var have []int32
	for i, h := range samples {
		if have = x.files(have, h); len(have)-from[i] > sameMax {
			have = have[:from[i]]
		}
		from = append(from, len(have))
	}
	done := make([]bool, len(samples))
	var votes []Vote
	for len(votes) < MaxSources {
		left := map[int32]share{}
		for i, h := range samples {
			files := have[from[i]:from[i+1]]
			if done[i] || len(files) == 0 {
				continue
			}
			worth := sampleWorth / len(files)
			for _, f := range files {
				c := left[f]
				c.count++
				if c.all += worth; bits.TrailingZeros64(h) >= x.coarse {
					c.coarse += worth
				}
				left[f] = c
			}
		}
		best, most := int32(-1), 0
		for f, c := range left {
			// One sample may be chance.
			if n := x.bytes(c); c.count > 1 && (n > most || n == most && f < best) {
				best, most = f, n
			}
		}
		// Another source costs more than a small part is worth.
		if best < 0 || len(votes) > 0 && most < len(content)/leastPart {
			break
		}
		votes = append(votes, Vote{int(best), most})
		for i := range samples {
			done[i] = done[i] || slices.Contains(have[from[i]:from[i+1]], best)
		}
	}
	return votes
}

const leastPart = 64
