package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A segment is a sequence of records: magic, kind, number, length, checksum, data. Numbers are little-endian; the
// checksum is CRC-32C over all but the magic and itself. The magic is no UTF-8, so that it is not found in the data.
const (
	recordMagic   = "\xf5rm\xfa"
	recordHeader  = len(recordMagic) + 1 + 8 + 4 + 4
	segmentSuffix = ".outbox"
	longestFile   = segmentSize + 2*longestEntry // what is beyond was not written by an outbox
	highest       = 1 << 62                      // number of an entry
)

// kind is what a record says.
type kind byte

const (
	kindEntry kind = 'e' // data waits under number
	kindDone  kind = 'd' // all up to number are done
)

type record struct {
	kind   kind
	number uint64
	data   []byte
}

// segmentName sorts as the numbers do.
func segmentName(n uint64) string { return fmt.Sprintf("%016x%s", n, segmentSuffix) }

func segmentNumber(path string) (n uint64, ok bool) {
	name := filepath.Base(path)
	n, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 16, 64)
	return n, err == nil && n < highest && name == segmentName(n)
}

func (r record) encode() []byte {
	b := make([]byte, 0, recordHeader+len(r.data))
	b = append(b, recordMagic...)
	b = append(b, byte(r.kind))
	b = binary.LittleEndian.AppendUint64(b, r.number)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.data)))
	b = binary.LittleEndian.AppendUint32(b, checksum(b[len(recordMagic):], r.data))
	return append(b, r.data...)
}

func checksum(head, data []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(head, table), table, data)
}

var errNoRecord = errors.New("no whole record")

// decode reads the record that b begins with.
func decode(b []byte) (record, error) {
	if len(b) < recordHeader || string(b[:len(recordMagic)]) != recordMagic {
		return record{}, errNoRecord
	}
	head := b[len(recordMagic) : recordHeader-4]
	r := record{kind: kind(head[0]), number: binary.LittleEndian.Uint64(head[1:])}
	size := binary.LittleEndian.Uint32(head[9:])
	if size > longestEntry || int(size) > len(b)-recordHeader || r.kind != kindEntry && r.kind != kindDone {
		return record{}, errNoRecord
	}
	r.data = b[recordHeader : recordHeader+int(size)]
	if checksum(head, r.data) != binary.LittleEndian.Uint32(b[recordHeader-4:]) {
		return record{}, errNoRecord
	}
	return r, nil
}

// scan calls f for each whole record in b, in order. What is damaged is passed over to the next record that is whole.
func scan(b []byte, f func(at int, r record)) {
	for at := 0; at < len(b); {
		r, err := decode(b[at:])
		if err == nil {
			f(at, r)
			at += recordHeader + len(r.data)
			continue
		}
		next := bytes.Index(b[at+1:], []byte(recordMagic))
		if next < 0 {
			return
		}
		at += 1 + next
	}
}

// readSegment reads a file as far as an outbox may have written it and as the medium gives it.
func readSegment(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, longestFile))
	return b
}

// read reads the data of an entry and checks it once more.
func (p place) read() ([]byte, error) {
	f, err := os.Open(p.in.path)
	if err != nil {
		return nil, err
	}
	b := make([]byte, recordHeader+int(p.size))
	_, err = f.ReadAt(b, p.at)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	r, err := decode(b)
	if err != nil || r.number != p.number || r.kind != kindEntry {
		return nil, errNoRecord
	}
	return r.data, nil
}
