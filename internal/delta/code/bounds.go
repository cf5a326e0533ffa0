package code

// What a program says of itself may be meant to make whoever reads it run out of memory or time. So what is remembered of
// it comes out of one budget, and what is looked at to find the fields of a chunk is bounded, too. The bounds are part of
// the format; no program that anybody has built comes near most of them.
const (
	// maxIndex is how much memory all that finds a program's fields may take, in bytes. What there is none left for has
	// no fields.
	maxIndex = 5 << 19
	// sparse is how many bytes of a program there are at least for each anchor, and of tables of lines for each hunk.
	sparse = 256
	// shortest is how long a copy is that is predicted, in bytes. A shorter one has few numbers, and finding them takes as
	// long as those of its whole chunk.
	shortest = 8
)

// take takes so many bytes out of the budget; false if there are not as many.
func (f *frame) take(n int64) bool {
	if n < 0 || n > maxIndex-f.taken {
		return false
	}
	f.taken += n
	return true
}

// labels returns labels that are all 0; nil if that would be none, or too many of them.
func (f *frame) labels(from, to int64) *labels {
	if from >= to || !f.take(labelsSize(from, to)) {
		return nil
	}
	return newLabels(from, to)
}

// drop gives back what labels have taken.
func (f *frame) drop(m *labels) {
	if m != nil {
		f.taken -= int64(len(m.set)) * 8
	}
}
