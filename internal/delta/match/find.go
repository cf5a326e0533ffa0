package match

const (
	sameMost  = 4       // places of the same bytes that are pursued
	sameAhead = 1 << 10 // bytes in which they are compared
	// workMost is how many bytes may be looked at for each byte of new, and workFree for none. From there on less is
	// looked up.
	workMost = 64
	workFree = 16 << 10
)

// find finds the way with the copies that a table of old knows.
func find(old, new []byte, lits *literals) *parser {
	t := &lookups{table: newTable(old).fill(), new: new}
	p := newParser(old, new, lits)
	p.enter(seed{})
	for p.pos < len(new) {
		// What is equal for long needs no other candidates until it ends.
		if to := p.ahead(t.width) - t.width; to > p.pos+runLeast {
			p.run(to)
			continue
		}
		if p.pos+t.width <= len(new) && p.work < workMost*(p.pos+workFree) {
			p.seed(t)
		}
		p.step()
	}
	return p
}

// seed looks for copies at the present place.
func (p *parser) seed(t *lookups) {
	for i := range p.lanes {
		if p.lanes[i].known >= p.pos+t.width {
			return
		}
	}
	var found [sameMost]seed
	n := 0
	t.each(p.pos, func(place int) {
		p.work++
		s := seed{pos: p.pos, shift: int64(place - p.pos)}
		if p.lane(s.shift) != nil {
			return
		}
		equal := p.equal(p.pos, s.shift, sameAhead)
		if equal < t.width {
			return
		}
		s.known = p.pos + equal
		s.keep = s.known
		if n < len(found) {
			found[n] = s
			n++
			return
		}
		least := 0
		for i := range found {
			if found[i].known < found[least].known {
				least = i
			}
		}
		if found[least].known < s.known {
			found[least] = s
		}
	})
	for _, s := range found[:n] {
		p.enter(s)
	}
}
