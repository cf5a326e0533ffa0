// Package recording owns what detectors said, written down: the CSV of recordings and of labels, running a
// configuration over a recording, and measuring how well it did beside the known alternatives. It does not own what a
// sample means, which is zone's, nor making recordings up, which is simulation's. It is longer than a room should be:
// the format, the alternatives and the measure are of no use without each other.
//
// A recording is CSV with the columns timestamp, zone and value, and labels are CSV with start, end and label:
//
//	timestamp,zone,value                     start,end,label
//	2025-01-31T18:04:05.250Z,hall,ON         2025-01-31T08:30:00Z,2025-01-31T18:04:05Z,away
//	2025-01-31T18:04:06.750Z,hall,OFF        2025-01-31T18:04:05Z,2025-01-31T18:05:05Z,entry
//	2025-01-31T18:04:06.800Z,porch,2.4512    2025-01-31T18:05:05Z,2025-02-01T08:30:00Z,home
//
// Times are ISO 8601: T or a space in the middle, seconds and their decimals optional, then Z, an offset or nothing,
// which means UTC. The value is ON or OFF (or OPEN and CLOSED, in any case) of a detector that reports its changes, a
// number of volts of an input that is sampled, or UNKNOWN of an input that could not be read. So 1 is one volt, not
// ON. The zone [Supply] is the measured supply of the loops. A zone's name with a comma in it stands in double quotes.
// The header may be missing, and may be repeated, so that files can be joined and sorted with the usual tools; empty
// lines and carriage returns mean nothing.
package recording

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Supply is the zone that says what the supply of the loops measures, in volts. It has no settings and no alarms.
const Supply = "@supply"

// Kind is what a row holds.
type Kind uint8

// The kinds.
const (
	Edge    Kind = iota // ON or OFF
	Sample              // volts
	Unknown             // the input could not be read
)

// Row is one line of a recording.
type Row struct {
	Line   int // of the file, from 1
	Time   time.Time
	Zone   string
	Kind   Kind
	Active bool    // of an Edge
	Volts  float64 // of a Sample
}

// Source opens a recording from its beginning, as often as it is called.
type Source func() (io.ReadCloser, error)

// File is the recording in the files of these names, one after the other, such as those a Writer has rotated. Rows
// may be out of order between files as far as a Reader sorts them.
func File(names ...string) Source {
	return func() (io.ReadCloser, error) {
		all := &files{}
		for _, name := range names {
			f, err := os.Open(name)
			if err != nil {
				all.Close()
				return nil, fmt.Errorf("open recording: %w", err)
			}
			// A file whose last line has no end is not to run into the next one.
			all.readers = append(all.readers, f, strings.NewReader("\n"))
			all.open = append(all.open, f)
		}
		all.Reader = io.MultiReader(all.readers...)
		return all, nil
	}
}

// Bytes is the recording in b.
func Bytes(b []byte) Source {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

type files struct {
	io.Reader
	readers []io.Reader
	open    []*os.File
}

func (f *files) Close() error {
	for _, o := range f.open {
		o.Close() // read only: nothing can be lost
	}
	return nil
}

// maxName is the longest name of a zone, in bytes.
const maxName = 200

// validName says what is wrong with a zone's name, or nothing.
func validName(name string) string {
	switch {
	case name == "":
		return "the zone has no name; write which zone it was in the second column"
	case len(name) > maxName:
		return fmt.Sprintf("the zone's name is longer than %d bytes; give it a shorter one", maxName)
	case !utf8.ValidString(name):
		return "the zone's name is not UTF-8; convert the file to UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Sprintf("the zone's name %q has a control character in it; take it out", name)
	}
	return ""
}

// fields splits a line into exactly three fields. A field in double quotes may have commas in it, and a quote that is
// written twice. The fields share the line's memory, and are trimmed.
func fields(line []byte) (f [3][]byte, wrong string) {
	rest := line
	for i := range f {
		var more bool
		if trimmed := bytes.TrimLeft(rest, " \t"); len(trimmed) > 0 && trimmed[0] == '"' {
			f[i], rest, more, wrong = quoted(trimmed[1:])
			if wrong != "" {
				return f, wrong
			}
		} else {
			f[i], rest, more = bytes.Cut(rest, []byte{','})
			f[i] = bytes.TrimSpace(f[i])
		}
		if more != (i < 2) {
			return f, fmt.Sprintf("found %d columns and not 3", 1+bytes.Count(line, []byte{','}))
		}
	}
	return f, ""
}

// quoted reads a field after its opening quote.
func quoted(b []byte) (field, rest []byte, more bool, wrong string) {
	field = b[:0:0]
	for {
		part, after, ok := bytes.Cut(b, []byte{'"'})
		if !ok {
			return nil, nil, false, "a double quote is not closed"
		}
		field = append(field, part...)
		if len(after) > 0 && after[0] == '"' {
			field, b = append(field, '"'), after[1:]
			continue
		}
		between, rest, more := bytes.Cut(after, []byte{','})
		if len(bytes.TrimSpace(between)) > 0 {
			return nil, nil, false, "there is text after a closing double quote"
		}
		return field, rest, more, ""
	}
}

// isHeader tells that the fields are the names of columns.
func isHeader(f [3][]byte, names [3]string) bool {
	for i := range f {
		if !strings.EqualFold(string(f[i]), names[i]) {
			return false
		}
	}
	return true
}
