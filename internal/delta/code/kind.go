package code

// width is how many bytes a field takes.
func (k Kind) width() int {
	switch k {
	case Word64, Size64:
		return 8
	case Turn3, Step3:
		return 3
	case Word16, Turn2, Step2:
		return 2
	case Word8, Here8, Turn1, Step1, Low6:
		return 1
	}
	return 4
}

// bits are those of a field that the number is in.
func (k Kind) bits() uint64 {
	switch k {
	case Word64, Size64:
		return 1<<64 - 1
	case Word16:
		return 1<<16 - 1
	case Word8, Here8:
		return 1<<8 - 1
	case Branch26:
		return 1<<26 - 1
	case Branch19:
		return (1<<19 - 1) << 5
	case Branch14:
		return (1<<14 - 1) << 5
	case Near21, Page21:
		return 3<<29 | (1<<19-1)<<5
	case Low12:
		return (1<<12 - 1) << 10
	case Branch24:
		return 1<<24 - 1
	case Thumb24:
		return (1<<13|1<<11|(1<<11-1))<<16 | (1<<11 - 1)
	case Low6:
		return 0x3f
	case Turn1, Step1:
		return 0x7f
	case Turn2, Step2:
		return 0x7f7f
	case Turn3, Step3:
		return 0x7f7f7f
	}
	return 1<<32 - 1
}

// here reports whether a field counts from its own place.
func (k Kind) here() bool {
	switch k {
	case Here32, Here8, Branch26, Branch19, Branch14, Near21, Page21, Branch24, Thumb24:
		return true
	}
	return false
}

// far reports whether a field is likely to name something else than the code round it.
func (k Kind) far() bool {
	switch k {
	case Here8, Branch19, Branch14, Near21, Page21, Word8, Word16, Turn1, Turn2, Turn3, Step1, Step2, Step3, Low6, Size32, Size64:
		return false
	}
	return true
}

// write is what a field's bits become if Target is at target and Base at base; ok is false if that cannot be written.
func (k Kind) write(target, base place, unit uint32) (bits uint64, ok bool) {
	switch k {
	case Page21:
		target, base, unit = target>>12, base>>12, 1
	case Low12:
		target, base = target&4095, 0
	case Branch26, Branch19, Branch14, Branch24:
		unit = 4
	case Thumb24:
		unit = 2
	}
	v := target - base
	if u := uint64(unit); u > 1 {
		switch signed := k.here(); {
		case v%u != 0 && (!signed || int64(v)%int64(u) != 0):
			return 0, false
		case signed:
			v = uint64(int64(v) / int64(u))
		default:
			v /= u
		}
	}
	switch k {
	case Word64:
		return v, true
	case Word32:
		return v, v < 1<<32
	case Word16:
		return v, v < 1<<16
	case Word8:
		return v, v < 1<<8
	case Int32, Here32:
		return v & (1<<32 - 1), int64(v) == int64(int32(v))
	case Here8:
		return v & 0xff, int64(v) == int64(int8(v))
	case Branch26:
		return v & (1<<26 - 1), fits(v, 26)
	case Branch19:
		return v & (1<<19 - 1) << 5, fits(v, 19)
	case Branch14:
		return v & (1<<14 - 1) << 5, fits(v, 14)
	case Near21, Page21:
		return v&3<<29 | v>>2&(1<<19-1)<<5, fits(v, 21)
	case Low12:
		return v << 10, v < 1<<12
	case Branch24:
		return v & (1<<24 - 1), fits(v, 24)
	case Turn1, Turn2, Turn3:
		v = v<<1 ^ uint64(int64(v)>>63)
		return sevens(v, int(k-Turn1))
	case Size32, Size64:
		return v + 1, v < 1<<24
	case Low6:
		return v & 0x3f, v > 0 && v < 1<<6
	case Step1, Step2, Step3:
		return sevens(v, int(k-Step1))
	case Thumb24: // S, imm10 | J1, J2, imm11; J1 and J2 are the next bits below the sign, turned round by it
		s := v >> 23 & 1
		j1, j2 := ^(v>>22^s)&1, ^(v>>21^s)&1
		return s<<10 | v>>11&(1<<10-1) | (j1<<13|j2<<11|v&(1<<11-1))<<16, fits(v, 24)
	}
	return 0, false
}

// sevens are the groups of seven bits of a number that takes n of them and one more, and no less.
func sevens(v uint64, n int) (bits uint64, ok bool) {
	return v&127 | v>>7&127<<8 | v>>14&127<<16, v>>(7*n+7) == 0 && (n == 0 || v>>(7*n) != 0)
}

// fits reports whether a signed number has no more than so many bits.
func fits(v uint64, n int) bool { return int64(v)<<(64-n)>>(64-n) == int64(v) }

// load and store read and write a field's bytes as one number.

func (k Kind) load(b []byte) uint64 {
	switch k.width() {
	case 8:
		return le.Uint64(b)
	case 3:
		return uint64(le.Uint16(b)) | uint64(b[2])<<16
	case 2:
		return uint64(le.Uint16(b))
	case 1:
		return uint64(b[0])
	}
	return uint64(le.Uint32(b))
}

func (k Kind) store(b []byte, v uint64) {
	switch k.width() {
	case 8:
		le.PutUint64(b, v)
	case 3:
		le.PutUint16(b, uint16(v))
		b[2] = byte(v >> 16)
	case 2:
		le.PutUint16(b, uint16(v))
	case 1:
		b[0] = byte(v)
	default:
		le.PutUint32(b, uint32(v))
	}
}
