package boardtest

import (
	"slices"
	"time"
)

// Drive is what a chip does to one of its lines.
type Drive byte

// The drives.
const (
	Floating Drive = '-' // nothing
	PulledUp Drive = 'u' // high, weakly
	Low      Drive = '0'
	High     Drive = '1'
)

// Step is a moment in the life of an expander: a register was written, or power came or went.
type Step struct {
	Time     time.Time
	Register int // -1: power
	Value    byte
	Lines    string // the Drive of each line after it, pin 1 first
}

// lines are the terminals of an expander. The mutex of the chip guards them.
type lines struct {
	count   int
	outside uint16 // lines that something outside drives, as a contact does
	level   uint16 // what it drives them to
	shorted uint16 // lines that something outside drives harder than the chip can
	first   string
	steps   []Step
	deaf    bool
}

// record adds a step.
func (l *lines) record(s Step) { l.steps = append(l.steps, s) }

// pins is what the lines show, given what the chip drives.
func (l *lines) pins(drives string) (pins uint16) {
	for i := range l.count {
		bit := uint16(1) << i
		d := Drive(drives[i])
		byChip := d == Low || d == High
		switch {
		case l.shorted&bit != 0, l.outside&bit != 0 && !byChip:
			pins |= l.level & bit
		case d == High, d == PulledUp:
			pins |= bit
		}
	}
	return pins
}

// set has something outside drive a line, harder than the chip or not, or let go of it.
func (l *lines) set(pin int, d Drive, hard bool) {
	bit := uint16(1) << (pin - 1)
	l.outside, l.shorted, l.level = l.outside&^bit, l.shorted&^bit, l.level&^bit
	if d == Floating {
		return
	}
	l.outside |= bit
	if hard {
		l.shorted |= bit
	}
	if d == High || d == PulledUp {
		l.level |= bit
	}
}

// seen is what a line went through.
func (l *lines) seen(pin int) string {
	s := []byte{l.first[pin-1]}
	for _, step := range l.steps {
		s = append(s, step.Lines[pin-1])
	}
	return string(slices.Compact(s))
}
