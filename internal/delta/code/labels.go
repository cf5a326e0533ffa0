package code

import "math/bits"

// labels are small numbers, 0 to 3, for every four bytes of a part of a file.
type labels struct {
	from, to int64
	set      []uint64
}

// newLabels returns labels that are all 0. The methods know what to do with nil.
func newLabels(from, to int64) *labels {
	return &labels{from, to, make([]uint64, labelsSize(from, to)/8)}
}

// labelsSize is what labels take, in bytes: a sixteenth of what they are for.
func labelsSize(from, to int64) int64 { return (to - from + 127) / 128 * 8 }

// put labels what is at off, unless that is outside or between two fours.
func (m *labels) put(off int64, v uint64) {
	if m == nil || off < m.from || off >= m.to || (off-m.from)%4 != 0 {
		return
	}
	i := (off - m.from) / 4
	m.set[i/32] = m.set[i/32]&^(3<<(i%32*2)) | v&3<<(i%32*2)
}

// get returns the label at off.
func (m *labels) get(off int64) uint64 {
	if m == nil || off < m.from || off >= m.to || (off-m.from)%4 != 0 {
		return 0
	}
	i := (off - m.from) / 4
	return m.set[i/32] >> (i % 32 * 2) & 3
}

// next returns where the first label that is not 0 is at or after off, looking no further than ceiling and the end of the
// part, or whichever of these comes first.
func (m *labels) next(off, ceiling int64) int64 {
	if m == nil {
		return ceiling
	}
	ceiling = min(ceiling, m.to)
	for i := (max(off-m.from, 0) + 3) / 4; m.from+i*4 < ceiling; i = (i/32 + 1) * 32 {
		if rest := m.set[i/32] >> (i % 32 * 2); rest != 0 {
			return min(m.from+(i+int64(bits.TrailingZeros64(rest)/2))*4, ceiling)
		}
	}
	return ceiling
}

// last returns where the last label that is not 0 is before off, looking no further than floor, or floor.
func (m *labels) last(off, floor int64) int64 {
	if m == nil {
		return floor
	}
	floor = max(floor, m.from)
	for off = min(off, m.to); off > floor; {
		i := (off - m.from - 1) / 4
		rest := m.set[i/32] << (62 - i%32*2)
		if rest != 0 {
			return max(m.from+(i-int64(bits.LeadingZeros64(rest)/2))*4, floor)
		}
		off = m.from + i/32*128
	}
	return floor
}
