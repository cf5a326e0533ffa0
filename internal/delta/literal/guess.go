package literal

import "encoding/binary"

// guess is the kind of a piece, and at which offsets modulo 4 its words begin, if it has some: 0 to 3.
func guess(p []byte) (kind, phase uint32) {
	var calls, near, odd int
	var branches [4]int
	for i, b := range p {
		if b >= 0x80 || b < ' ' && b != '\n' && b != '\t' && b != '\r' {
			odd++
		}
		if b&0xfe == 0xe8 && i+4 < len(p) {
			calls++
			if p[i+4] == 0 || p[i+4] == 255 {
				near++
			}
		}
		if b&0xfc == 0x94 && i >= 3 { // the last byte of a BL that goes less than 16 MiB
			if v := binary.LittleEndian.Uint32(p[i-3:]) << 6 >> 6; v>>22 == 0 || v>>22 == 15 {
				branches[(i+1)&3]++
			}
		}
	}
	most, all := 0, 0
	for i, n := range branches {
		all += n
		if n > branches[most] {
			most = i
		}
	}
	switch n := len(p); {
	case odd*16 <= n:
		return text, 0
	case branches[most]*200 > n && branches[most]*4 > all*3:
		return arm64, uint32(most)
	case near*2 > calls && near*400 > n:
		return x86, 0
	}
	return other, 0
}
