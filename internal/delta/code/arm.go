package code

import "debug/elf"

// arm reads A32 and T32 code (Arm ARM DDI 0406, A5 and A6): the branches of both, and, in A32, addresses that a program
// for a fixed address keeps among its code. Which of the two a block is, is told by what it looks like.
type arm struct{ code }

func (t *arm) fields(from, to int64, yield func(Field)) {
	t.blocks(from, to, 0, 4, func(b []byte, at int64, _, end int) {
		if thumb(b) {
			t.thumb(b, at, end, yield)
			return
		}
		for i := 0; i+4 <= end; i += 4 {
			w := le.Uint32(b[i:])
			addr := t.addr + uint64(at+int64(i)-t.from)
			switch target := addr + 8 + uint64(int64(int32(w<<8))>>6); {
			case w>>25&7 == 5 && w>>28 != 15: // B, BL
				if t.f.names(target) {
					yield(Field{At: at + int64(i), Target: target, Base: addr + 8, Kind: Branch24})
				}
			case t.f.kind == elf.ET_EXEC && t.f.names(uint64(w)): // no instruction that is in use looks so
				yield(Field{At: at + int64(i), Target: uint64(w), Kind: Word32})
			}
		}
	})
}

// thumb tells of the branches of T32 code: BL, BLX and B.W.
func (t *arm) thumb(b []byte, at int64, end int, yield func(Field)) {
	for i := 0; i+4 <= len(b) && i < end; i += 2 {
		w := le.Uint32(b[i:])
		if w&0xf800 != 0xf000 || w>>28&0xd != 0xd && w>>28&0xd != 0x9 && w>>28&0xd != 0xc {
			continue
		}
		base := t.addr + uint64(at+int64(i)-t.from) + 4
		if w>>28&1 == 0 { // BLX goes to A32 code, and counts from a multiple of four
			base &^= 3
		}
		s := uint64(w) >> 10 & 1
		v := s<<23 | (^(uint64(w)>>29^s)&1)<<22 | (^(uint64(w)>>27^s)&1)<<21 | uint64(w)&(1<<10-1)<<11 | uint64(w)>>16&(1<<11-1)
		if target := base + uint64(int64(v<<40)>>39); t.f.names(target) {
			yield(Field{At: at + int64(i), Target: target, Base: base, Kind: Thumb24})
		}
		i += 2
	}
}

// thumb reports whether code is T32: most instructions of A32 are without a condition, which shows in each fourth byte.
func thumb(b []byte) bool {
	always := 0
	for i := 3; i < len(b); i += 4 {
		if b[i]>>4 == 14 {
			always++
		}
	}
	return always*8 < len(b)
}
