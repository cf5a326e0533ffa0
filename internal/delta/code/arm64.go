package code

// arm64 reads A64 code (Arm ARM DDI 0487, C4.1): branches, and the address that a pair of instructions makes, ADRP and
// one that adds the lower twelve bits.
type arm64 struct {
	code
	found []Field // in the block at hand
}

// Bytes to read before and behind a block, for pairs that are in two.
const (
	arm64Lead = 128
	arm64Tail = 128
)

func (t *arm64) fields(from, to int64, yield func(Field)) {
	t.blocks(from, to, arm64Lead, arm64Tail, func(b []byte, at int64, begin, end int) {
		t.block(b, at, end)
		for i := range t.found {
			if f := &t.found[i]; f.At >= at+int64(begin) && f.At < at+int64(end) {
				yield(*f)
			}
		}
	})
}

// high are the registers that an ADRP has set: the number of its field plus one; 0 if one holds something else. Its field
// names the page, until it is known which place there is meant.
type high [32]int

// call forgets what a function may change, X0 to X18; leave forgets all: who goes away leaves nothing to what follows.

func (r *high) call()  { clear(r[:19]) }
func (r *high) leave() { clear(r[:]) }

// block finds the fields in b, which is at an offset of the file. From `end` on, ADRPs are left out.
func (t *arm64) block(b []byte, at int64, end int) {
	t.found = t.found[:0]
	var regs high
	addr := t.addr + uint64(at-t.from)
	for i := 0; i+4 <= len(b); i, at, addr = i+4, at+4, addr+4 {
		w := le.Uint32(b[i:])
		target := &regs[w&31]
		switch {
		case w&0x1c000000 == 0x14000000:
			switch {
			case w&0x7c000000 == 0x14000000: // B, BL
				t.near(at, addr, Branch26, int64(int32(w<<6))>>4)
				if regs.call(); w>>31 == 0 {
					regs.leave()
				}
			case w&0xff000000 == 0x54000000, w&0x7e000000 == 0x34000000: // B.cond; CBZ, CBNZ
				t.near(at, addr, Branch19, int64(int32(w<<8)>>13)<<2)
			case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
				t.near(at, addr, Branch14, int64(int32(w<<13)>>18)<<2)
			case w&0xfffffc1f == 0xd63f0000: // BLR
				regs.call()
			case w&0xfe000000 == 0xd6000000: // BR, RET
				regs.leave()
			}
		case w&0x1f000000 == 0x10000000: // ADR, ADRP
			*target = 0
			distance := int64(int32(w<<8)>>13)<<2 | int64(w>>29&3)
			if w>>31 == 0 {
				t.near(at, addr, Near21, distance)
			} else if page := addr&^4095 + uint64(distance<<12); i < end && w&31 != 31 && t.f.names(page|4095) {
				t.found = append(t.found, Field{At: at, Target: page, Base: addr, Kind: Page21})
				*target = len(t.found)
			}
		case w&0xffc00000 == 0x91000000: // ADD, 64 bits, not shifted
			t.low(at, w, 1, regs[w>>5&31])
			*target = 0
		case w&0x3b000000 == 0x39000000: // LDR, STR (unsigned offset)
			unit := uint32(1) << (w >> 30)
			if w&0x04800000 == 0x04800000 {
				unit = 16
			}
			t.low(at, w, unit, regs[w>>5&31])
			if w&0x04c00000 != 0 && w>>26&1 == 0 {
				*target = 0 // a load, into one of these registers
			}
		case w&0x3b000000 == 0x18000000: // LDR (literal)
			t.near(at, addr, Branch19, int64(int32(w<<8)>>13)<<2)
			*target = 0
		default:
			*target = 0
		}
	}
}

// near adds a field that counts from its own place.
func (t *arm64) near(at int64, addr place, k Kind, distance int64) {
	if target := addr + uint64(distance); t.f.names(target) {
		t.found = append(t.found, Field{At: at, Target: target, Base: addr, Kind: k})
	}
}

// low adds the lower half of a pair and completes the upper one, whose number plus one is n; 0 if there is none.
func (t *arm64) low(at int64, w, unit uint32, n int) {
	if n == 0 {
		return
	}
	h := &t.found[n-1]
	target := h.Target&^4095 + uint64(w>>10&4095)*uint64(unit)
	if !t.f.names(target) {
		return
	}
	if h.Target&4095 == 0 {
		h.Target = target
	}
	t.found = append(t.found, Field{At: at, Target: target, Unit: unit, Kind: Low12})
}
