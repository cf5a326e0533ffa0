package literal

import (
	"encoding/binary"
)

// Calls name their target by its distance, so that two calls of one function look different. A filter makes them places,
// counted from wherever the model began, and back again. Where an operand is no operand, it is changed back all the same.

// filter changes contents of a kind, which come at at, whose words begin at phase; unfilter changes them back.
func filter(p []byte, at, kind, phase uint32) {
	switch kind {
	case x86:
		// From the end to the beginning: what follows an instruction looks then as it does to unfilter.
		for i := len(p) - 5; i >= 0; i-- {
			if p[i]&0xfe == 0xe8 {
				shift(p[i+1:i+5], at+uint32(i))
			}
		}
	case arm64:
		for i := int(phase); i+4 <= len(p); i += 4 {
			w := move(binary.LittleEndian.Uint32(p[i:]), at+uint32(i), 1)
			binary.BigEndian.PutUint32(p[i:], w)
		}
	}
}

func unfilter(p []byte, at, kind, phase uint32) {
	switch kind {
	case x86:
		for i := 0; i < len(p)-4; i++ {
			if p[i]&0xfe == 0xe8 {
				shift(p[i+1:i+5], -(at + uint32(i)))
			}
		}
	case arm64:
		for i := int(phase); i+4 <= len(p); i += 4 {
			w := move(binary.BigEndian.Uint32(p[i:]), at+uint32(i), ^uint32(0))
			binary.LittleEndian.PutUint32(p[i:], w)
		}
	}
}

// shift adds to an operand of CALL or JMP that is not farther than 16 MiB, and leaves it so.
func shift(b []byte, by uint32) {
	if b[3] != 0 && b[3] != 255 {
		return
	}
	v := binary.LittleEndian.Uint32(b) + by
	binary.LittleEndian.PutUint32(b, uint32(int32(v<<7)>>7))
}

// move adds a place to the operand of a BL, in words, or an ADRP, in pages, or takes it away. For arm64, words are kept with the highest byte first:
// it says what the others are.
func move(w, at, sign uint32) uint32 {
	switch {
	case w>>26 == 0x25:
		return w&0xfc000000 | (w+at>>2*sign)&0x03ffffff
	case w&0x9f000000 == 0x90000000:
		page := w>>29&3 | w>>3&0x1ffffc
		page += at >> 12 * sign
		return w&0x9f00001f | page&3<<29 | page<<3&0xffffe0
	}
	return w
}
