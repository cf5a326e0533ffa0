package code

// named tells what functions are called: for where they begin, and for their descriptions.
func (t functionTable) named(yield func(p place, name uint64)) {
	base, size := t.place(t.functions), int64(4)
	if t.since < 18 {
		size = t.word
	}
	for i := range t.count {
		entry, off := t.function(i)
		if t.since >= 18 {
			entry += t.text
		}
		if name, ok := t.name(t.names + int64(t.u32(t.functions+off+size))); ok {
			yield(entry, name)
			yield(base+uint64(off), name+1)
		}
	}
}
