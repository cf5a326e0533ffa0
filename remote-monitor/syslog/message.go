package syslog

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Severity is how bad it is, RFC 5424 section 6.2.1.
type Severity int

// The severities.
const (
	Emergency Severity = iota
	Alert
	Critical
	Err
	Warning
	Notice
	Info
	Debug
)

// Param is one name and value of structured data.
type Param struct{ Name, Value string }

// The bounds of a message. Receivers should take 2048 bytes over UDP (RFC 5426 section 3.2), so no message is longer.
const (
	longest  = 2048
	dataRoom = 1400
	nameRoom = 32 // of an SD-NAME
)

// dataID names the structured data. 32473 is the enterprise number for examples (RFC 5612): this program has none of
// its own.
const dataID = "rm@32473"

// byteOrderMark says that a text is UTF-8, RFC 5424 section 6.4. ASCII needs none, and reads the same without.
const byteOrderMark = "\uFEFF"

// record is a message before it is written.
type record struct {
	facility int
	severity Severity
	time     time.Time
	host     string
	app      string
	process  string
	kind     string // MSGID
	data     []Param
	text     string
}

// append writes the message as RFC 5424 has it, without a frame. Whatever is in it, the result is one message of at most
// longest bytes without a line end.
func (m record) append(b []byte) []byte {
	start := len(b)
	b = strconv.AppendInt(append(b, '<'), int64(m.facility*8+int(m.severity)), 10)
	b = append(b, ">1 "...)
	if m.time.IsZero() {
		b = append(b, '-')
	} else {
		b = m.time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	}
	for _, f := range []struct {
		value string
		room  int
	}{{m.host, 255}, {m.app, 48}, {m.process, 128}, {m.kind, 32}} {
		b = header(append(b, ' '), f.value, f.room)
	}
	b = structured(append(b, ' '), m.data)
	if m.text == "" {
		return b
	}
	b = append(b, ' ')
	text := clean(m.text)
	if strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		b = append(b, byteOrderMark...)
	}
	return append(b, cut(text, longest-(len(b)-start))...)
}

// header writes a field of printable ASCII without spaces; - stands for nothing.
func header(b []byte, s string, room int) []byte {
	start := len(b)
	for _, c := range []byte(s) {
		if len(b)-start == room {
			break
		}
		if c > ' ' && c < 0x7f {
			b = append(b, c)
		}
	}
	if len(b) == start {
		b = append(b, '-')
	}
	return b
}

// structured writes the one element of structured data, and leaves out what there is no room for.
func structured(b []byte, data []Param) []byte {
	start := len(b)
	for _, p := range data {
		one := parameter(p)
		if one == nil || len(b)-start+len(one) > dataRoom {
			continue
		}
		if len(b) == start {
			b = append(append(b, '['), dataID...)
		}
		b = append(b, one...)
	}
	if len(b) == start {
		return append(b, '-')
	}
	return append(b, ']')
}

// parameter writes one pair, with a space before it; nil if its name has nothing that a name may have.
func parameter(p Param) []byte {
	b := []byte{' '}
	for _, c := range []byte(p.Name) {
		if c > ' ' && c < 0x7f && c != '=' && c != ']' && c != '"' && len(b) <= nameRoom {
			b = append(b, c)
		}
	}
	if len(b) == 1 {
		return nil
	}
	b = append(b, `="`...)
	for _, r := range cut(clean(p.Value), 400) {
		if r == '"' || r == '\\' || r == ']' {
			b = append(b, '\\')
		}
		b = utf8.AppendRune(b, r)
	}
	return append(b, '"')
}

// clean makes s UTF-8 without control characters: a line end would be a second message to some receivers, and a terminal
// would obey others.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// cut shortens s to room bytes, not within a character.
func cut(s string, room int) string {
	if len(s) <= room {
		return s
	}
	for room > 0 && !utf8.RuneStart(s[room]) {
		room--
	}
	return s[:max(room, 0)]
}
