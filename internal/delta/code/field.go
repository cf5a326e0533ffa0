package code

import "encoding/binary"

// A place is where something of the old program is: its address in memory, or, for what is never loaded, unloaded plus
// its offset in the file.
type place = uint64

// unloaded marks a place as an offset in the file. No program has addresses that high.
const unloaded place = 1 << 63

// Field is a number in an old file that names a place in it. In the new file it is
//
//	(where Target is now - where Base is now) / Unit
//
// which is what Kind writes down. A Base of 0 stays 0: the number is an address, or with unloaded as Base an offset in the
// file.
type Field struct {
	At     int64 // its first byte, an offset in the old file
	Target place // what it names; whoever found the field has worked it out from the old bytes
	Base   place // what it counts from
	Unit   uint32
	Kind   Kind
}

// Kind is how a field is written. Those called Here count from the field's own place: Base is a place near it, and moves
// with the field wherever its copy goes, not with what else is at Base.
type Kind uint8

// The kinds. All are little-endian. Unit is 1 where nothing is said of it; a Unit of 0 means 1.
const (
	Word64 Kind = iota
	Word32
	Int32 // as Word32, but signed; Word32 and Int32 differ in what is too big to be written
	Here32
	Here8    // x86-64's short branches
	Word16   // rare
	Word8    // rare
	Branch26 // arm64's B, BL
	Branch19 // arm64's B.cond, CBZ, CBNZ, LDR (literal)
	Branch14 // arm64's TBZ, TBNZ
	Near21   // arm64's ADR
	Page21   // arm64's ADRP: the page of Target, counted from the page of Base
	Low12    // arm64's ADD, LDR, STR after an ADRP: the lower twelve bits of Target in units of Unit; Base is ignored
	Branch24 // arm's B, BL, BLX
	Thumb24  // thumb's BL, B.W, BLX
	// Numbers in groups of seven bits, the lowest first, in so many bytes; Turns are signed, the sign in the lowest bit.
	Turn1
	Turn2
	Turn3
	Step1
	Step2
	Step3
	Low6 // the lower six bits of a byte, not 0
	// How long something is whose last byte is Target.
	Size32
	Size64
	kinds
)

// table is how a part of an old file is read. fields calls yield for the fields that begin in the file's bytes from `from`
// to `to`, which lie in the part; what else it calls it for is passed over. They must not overlap, and need not be in
// order. It is asked for chunks of the part, always the same ones, so that which fields there are does not depend on the
// pieces that copies are predicted in; it must not depend on what was asked before. A table holds bounded memory, and
// takes time for what is asked, not for the part.
type table interface {
	fields(from, to int64, yield func(Field))
}

// part is a table with the bytes of the old file that it is about. Its name is the same in every build of a program.
type part struct {
	name     string
	from, to int64
	table    table
}

// models find the parts of a program, each those of its trade. Where parts overlap the earlier one has the bytes.
func models() []func(*frame) []part {
	return []func(*frame) []part{instructions, golangParts, tables}
}

// le reads numbers.
var le = binary.LittleEndian
