// Package match finds what a new file has of old ones: which parts of it are copies, and of many old files the few worth
// comparing it with. It looks at bytes alone: what they mean, and how a difference is written down, is for others.
package match

// Copy says that Len bytes of the new file, from New on, are those of the old one from Old on, but for a difference of
// single bytes here and there. Offsets and lengths are in bytes; Len is at least 1.
type Copy struct{ New, Old, Len int64 }

// Find returns copies by which most of new can be made of old, sorted by New and not overlapping. It is a function of its
// arguments. What no copy covers is in old nowhere, or not worth a copy.
func Find(old, new []byte) []Copy {
	if len(old) == 0 || len(new) == 0 {
		return nil
	}
	p := find(old, new, newLiterals(new))
	return refine(p, p.copies()).copies()
}
