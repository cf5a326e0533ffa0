package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"
)

// packer writes MessagePack into memory, where no write fails. Its maps keep the order of the fields.
type packer struct {
	*msgpack.Encoder
	buf *bytes.Buffer
}

func newPacker() packer {
	var b bytes.Buffer
	e := msgpack.NewEncoder(&b)
	e.UseCompactInts(true)
	return packer{e, &b}
}

// fields writes a map.
func (p packer) fields(list ...field) {
	p.must(p.EncodeMapLen(len(list)))
	for _, f := range list {
		p.must(p.EncodeString(f.name))
		switch v := f.value.(type) {
		case nil:
			p.must(p.EncodeNil())
		case string:
			p.must(p.EncodeString(v))
		case bool:
			p.must(p.EncodeBool(v))
		case int64:
			p.must(p.EncodeInt(v))
		case float64:
			p.must(p.EncodeFloat64(v))
		case [][]field:
			p.must(p.EncodeArrayLen(len(v)))
			for _, m := range v {
				p.fields(m...)
			}
		default:
			panic(fmt.Sprintf("bus: pack %T", v))
		}
	}
}

func (p packer) must(err error) {
	if err != nil {
		panic("bus: pack: " + err.Error())
	}
}

type field struct {
	name  string
	value any
}

// unpacker reads MessagePack that anybody may have sent. It is not the library's decoder because that one takes
// lengths for ints, which they overflow where an int has 32 bits, and descends into what is nested as deep as it goes.
// This one takes no more memory than what it reads is long, and keeps no stack.
type unpacker struct {
	rest []byte
}

var errPacked = errors.New("no MessagePack")

// shape is what of a value has been read.
type shape int

const (
	scalar   shape = iota // all of it
	sequence              // the head; n values follow
	mapping               // the head; n pairs follow
)

// other is a scalar that is neither nil, bool, float64 nor string.
type other struct{}

// next reads a scalar, or the head of a sequence or mapping.
func (u *unpacker) next() (k shape, v any, n int, err error) {
	code, err := u.uint(1)
	if err != nil {
		return scalar, nil, 0, err
	}
	switch {
	case code <= 0x7f:
		return scalar, float64(code), 0, nil
	case code <= 0x8f:
		return u.head(mapping, uint64(code&0x0f), nil)
	case code <= 0x9f:
		return u.head(sequence, uint64(code&0x0f), nil)
	case code <= 0xbf:
		v, err = u.text(uint64(code&0x1f), nil)
		return scalar, v, 0, err
	case code >= 0xe0:
		return scalar, float64(int8(code)), 0, nil
	}
	var size uint64
	switch code {
	case 0xc0:
	case 0xc2, 0xc3:
		v = code == 0xc3
	case 0xc4, 0xc5, 0xc6: // bin 8, 16, 32: some call their text that
		size, err = u.uint(1 << (code - 0xc4))
		v, err = u.text(size, err)
	case 0xc7, 0xc8, 0xc9: // ext 8, 16, 32: a type and so many bytes
		size, err = u.uint(1 << (code - 0xc7))
		_, err = u.text(size+1, err)
		v = other{}
	case 0xca:
		size, err = u.uint(4)
		v = float64(math.Float32frombits(uint32(size)))
	case 0xcb:
		size, err = u.uint(8)
		v = math.Float64frombits(size)
	case 0xcc, 0xcd, 0xce, 0xcf:
		size, err = u.uint(1 << (code - 0xcc))
		v = float64(size)
	case 0xd0, 0xd1, 0xd2, 0xd3:
		bytes := 1 << (code - 0xd0)
		size, err = u.uint(bytes)
		v = float64(int64(size<<(64-8*bytes)) >> (64 - 8*bytes))
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext: a type and 1, 2, 4, 8 or 16 bytes
		_, err = u.text(1+1<<(code-0xd4), nil)
		v = other{}
	case 0xd9, 0xda, 0xdb:
		size, err = u.uint(1 << (code - 0xd9))
		v, err = u.text(size, err)
	case 0xdc, 0xdd:
		size, err = u.uint(2 << (code - 0xdc))
		return u.head(sequence, size, err)
	case 0xde, 0xdf:
		size, err = u.uint(2 << (code - 0xde))
		return u.head(mapping, size, err)
	default: // 0xc1 is never used
		err = errPacked
	}
	return scalar, v, 0, err
}

// uint reads a number of so many bytes.
func (u *unpacker) uint(size int) (uint64, error) {
	if len(u.rest) < size {
		return 0, errPacked
	}
	var b [8]byte
	copy(b[8-size:], u.rest)
	u.rest = u.rest[size:]
	return binary.BigEndian.Uint64(b[:]), nil
}

// text reads so many bytes, unless their number could not be read.
func (u *unpacker) text(size uint64, err error) (string, error) {
	if err != nil || size > uint64(len(u.rest)) {
		return "", errPacked
	}
	s := string(u.rest[:size])
	u.rest = u.rest[size:]
	return s, nil
}

// head is a sequence or mapping of so many, unless their number could not be read or more than the rest can hold.
func (u *unpacker) head(k shape, n uint64, err error) (shape, any, int, error) {
	if err != nil || n > uint64(len(u.rest)) {
		return k, nil, 0, errPacked
	}
	return k, nil, int(n), nil
}

// skip passes over one value with all that is in it.
func (u *unpacker) skip() error {
	for left := 1; left > 0; left-- {
		k, _, n, err := u.next()
		if err != nil {
			return err
		}
		if left += int(k) * n; left > len(u.rest)+1 {
			return errPacked
		}
	}
	return nil
}

// scalar reads a value: nil, bool, float64, string or other. A sequence or mapping is passed over and is other.
func (u *unpacker) scalar() (any, error) {
	before := u.rest
	k, v, _, err := u.next()
	if err != nil || k == scalar {
		return v, err
	}
	u.rest = before
	return other{}, u.skip()
}

// atMap says whether the next value is a mapping.
func (u *unpacker) atMap() bool {
	ahead := *u
	k, _, _, err := ahead.next()
	return err == nil && k == mapping
}

// fields reads a mapping. It calls f for each key that is text, and f reads the value; others are passed over.
func (u *unpacker) fields(f func(name string) error) error {
	k, _, n, err := u.next()
	if err != nil || k != mapping {
		return errPacked
	}
	for range n {
		key, err := u.scalar()
		if err != nil {
			return err
		}
		if name, ok := key.(string); ok {
			err = f(name)
		} else {
			err = u.skip()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
