package code

import "debug/elf"

// amd64 reads x86-64 code (Intel SDM volume 2, appendix A): branches, and operands that count from the next instruction.
// In programs for a fixed address it takes addresses, too.
type amd64 struct{ code }

// Bytes to read before a block, in which the reader falls into step with the instructions, and behind it, for its last.
const (
	amd64Lead = 64
	amd64Tail = 16
)

func (t amd64) fields(from, to int64, yield func(Field)) {
	fixed := t.f.kind == elf.ET_EXEC
	t.blocks(from, to, amd64Lead, amd64Tail, func(b []byte, at int64, begin, end int) {
		var rest [2 * amd64Tail]byte
		for i := 0; i < end; {
			in := b[i:]
			if len(in) < amd64Tail { // the section's end
				n := copy(rest[:], in)
				clear(rest[n:])
				in = rest[:]
			}
			o := decode(in)
			off := at + int64(i)
			next := t.addr + uint64(off-t.from) + uint64(o.size)
			if i >= begin {
				f := Field{At: off + int64(o.near), Base: next, Kind: Here32}
				switch {
				case o.near == 0:
				case o.short:
					f.Kind, f.Target = Here8, next+uint64(int8(in[o.near]))
				default:
					f.Target = next + uint64(int32(le.Uint32(in[o.near:])))
				}
				if o.near != 0 && t.f.names(f.Target) {
					yield(f)
				}
				if fixed {
					for _, n := range [...]int{o.disp, o.imm} {
						if n != 0 {
							if v := le.Uint32(in[n:]); t.f.names(uint64(v)) {
								yield(Field{At: off + int64(n), Target: uint64(v), Kind: Word32})
							}
						}
					}
				}
			}
			i += o.size
		}
	})
}

// operation is where an instruction has operands; 0 is nowhere.
type operation struct {
	size  int
	near  int  // a number that counts from the next instruction
	short bool // it has one byte, not four
	disp  int  // four bytes that may be an address, or be added to one
	imm   int  // likewise
}

// What follows an opcode.
const (
	modrm  = 1 << iota
	imm8   // one byte
	imm16  // two
	immz   // two after the prefix 66, else four
	immv   // as immz, but eight with REX.W
	rel8   // a short branch
	rel32  // a branch
	others // prefixes, escapes, what there is not, and what is not like others
)

// decode reads the instruction that b begins with, of which there must be 16 bytes. What is none has one byte.
func decode(b []byte) operation {
	bad := operation{size: 1}
	small, wide := false, false // prefix 66, REX.W
	short := false              // prefix 67
	i := 0
	for ; ; i++ {
		if i == 8 {
			return bad
		}
		switch b[i] {
		case 0x66:
			small = true
			continue
		case 0x67:
			short = true
			continue
		case 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf0, 0xf2, 0xf3:
			continue
		}
		break
	}
	if b[i]&0xf0 == 0x40 {
		wide = b[i]&8 != 0
		i++
	}
	var what uint8
	op := b[i]
	i++
	escaped := false
	switch {
	case op == 0x0f:
		escaped = true
		op = b[i]
		i++
		switch op {
		case 0x38:
			what, i = modrm, i+1
		case 0x3a:
			what, i = modrm|imm8, i+1
		default:
			what = twoByte[op]
		}
	case op == 0xc5, op == 0xc4, op == 0x62: // VEX, EVEX
		m := byte(1)
		switch op {
		case 0xc5:
			i++
		case 0xc4:
			m = b[i] & 31
			i += 2
		default:
			m = b[i] & 7
			i += 3
		}
		escaped = true
		op = b[i]
		i++
		switch m {
		case 1:
			what = twoByte[op]
			if what&(rel32|others) != 0 {
				return bad
			}
		case 2, 5, 6:
			what = modrm
		case 3:
			what = modrm | imm8
		default:
			return bad
		}
	default:
		what = oneByte[op]
	}
	if what&others != 0 {
		if escaped || op&0xfc != 0xa0 {
			return bad
		}
		// MOV with an address of eight bytes
		if i += 8; short {
			i -= 4
		}
		return operation{size: i}
	}
	var o operation
	if what&modrm != 0 {
		m := b[i]
		i++
		if !escaped && op&0xfe == 0xf6 && m&0x30 == 0 { // TEST has a number
			if what |= imm8; op == 0xf7 {
				what ^= imm8 | immz
			}
		}
		mod, rm := m>>6, m&7
		if mod != 3 && rm == 4 {
			if b[i]&7 == 5 && mod == 0 {
				mod = 2
			}
			i++
		} else if mod == 0 && rm == 5 {
			o.near = i
			mod = 2
		}
		switch mod {
		case 1:
			i++
		case 2:
			if o.near == 0 {
				o.disp = i
			}
			i += 4
		}
	}
	switch {
	case what&rel8 != 0:
		o.near, o.short = i, true
		i++
	case what&rel32 != 0:
		o.near = i
		i += 4
	case what&immv != 0 && wide:
		i += 8
	case what&(immz|immv) != 0 && small:
		i += 2
	case what&(immz|immv) != 0:
		o.imm = i
		i += 4
	}
	if what&imm16 != 0 {
		i += 2
	}
	if what&imm8 != 0 {
		i++
	}
	if i > 15 {
		return bad
	}
	o.size = i
	return o
}

// oneByte and twoByte say what follows the opcodes of one byte, and those after 0F.
var (
	oneByte = func() (t [256]uint8) {
		set := setter(&t)
		for op := 0; op < 0x40; op += 8 {
			set(op, op+3, modrm)
			set(op+4, op+4, imm8)
			set(op+5, op+5, immz)
			set(op+6, op+7, others)
		}
		set(0x40, 0x4f, others)
		set(0x60, 0x62, others)
		set(0x63, 0x63, modrm)
		set(0x64, 0x67, others)
		set(0x68, 0x68, immz)
		set(0x69, 0x69, modrm|immz)
		set(0x6a, 0x6a, imm8)
		set(0x6b, 0x6b, modrm|imm8)
		set(0x70, 0x7f, rel8)
		set(0x80, 0x80, modrm|imm8)
		set(0x81, 0x81, modrm|immz)
		set(0x82, 0x82, others)
		set(0x83, 0x83, modrm|imm8)
		set(0x84, 0x8f, modrm)
		set(0x9a, 0x9a, others)
		set(0xa0, 0xa3, others)
		set(0xa8, 0xa8, imm8)
		set(0xa9, 0xa9, immz)
		set(0xb0, 0xb7, imm8)
		set(0xb8, 0xbf, immv)
		set(0xc0, 0xc1, modrm|imm8)
		set(0xc2, 0xc2, imm16)
		set(0xc4, 0xc5, others)
		set(0xc6, 0xc6, modrm|imm8)
		set(0xc7, 0xc7, modrm|immz)
		set(0xc8, 0xc8, imm16|imm8)
		set(0xca, 0xca, imm16)
		set(0xcd, 0xcd, imm8)
		set(0xce, 0xce, others)
		set(0xd0, 0xd3, modrm)
		set(0xd4, 0xd6, others)
		set(0xd8, 0xdf, modrm)
		set(0xe0, 0xe3, rel8)
		set(0xe4, 0xe7, imm8)
		set(0xe8, 0xe9, rel32)
		set(0xea, 0xea, others)
		set(0xeb, 0xeb, rel8)
		set(0xf0, 0xf0, others)
		set(0xf2, 0xf3, others)
		set(0xf6, 0xf7, modrm)
		set(0xfe, 0xff, modrm)
		return t
	}()
	twoByte = func() (t [256]uint8) {
		set := setter(&t)
		set(0x00, 0xff, modrm)
		set(0x04, 0x04, others)
		set(0x05, 0x09, 0)
		set(0x0a, 0x0a, others)
		set(0x0b, 0x0b, 0)
		set(0x0c, 0x0c, others)
		set(0x0e, 0x0e, 0)
		set(0x0f, 0x0f, modrm|imm8)
		set(0x24, 0x27, others)
		set(0x30, 0x35, 0)
		set(0x36, 0x36, others)
		set(0x37, 0x37, 0)
		set(0x38, 0x3f, others)
		set(0x70, 0x73, modrm|imm8)
		set(0x77, 0x77, 0)
		set(0x80, 0x8f, rel32)
		set(0xa0, 0xa2, 0)
		set(0xa4, 0xa4, modrm|imm8)
		set(0xa6, 0xa7, others)
		set(0xa8, 0xaa, 0)
		set(0xac, 0xac, modrm|imm8)
		set(0xba, 0xba, modrm|imm8)
		set(0xc2, 0xc2, modrm|imm8)
		set(0xc4, 0xc6, modrm|imm8)
		set(0xc8, 0xcf, 0)
		return t
	}()
)

func setter(t *[256]uint8) func(from, to int, what uint8) {
	return func(from, to int, what uint8) {
		for i := from; i <= to; i++ {
			t[i] = what
		}
	}
}
