package boardtest

import (
	"math"
	"time"
)

// ADS1115 is a converter of four channels (Texas Instruments SBAS444). Make it with NewADS1115.
type ADS1115 struct {
	converter
	// Scale is the divider before the chip, as volts at the terminal for a volt at the chip; 0 is 1. Set it before
	// first use.
	Scale float64

	pointer    byte
	registers  [4]uint16
	started    time.Time
	converting bool

	at   int // bytes of the write or read under way
	high byte
}

// The registers and the bits of the configuration.
const (
	adsConversion = 0
	adsConfig     = 1
	adsOS         = 0x8000
	adsSingleShot = 0x0100
)

// NewADS1115 makes a converter without a divider.
func NewADS1115() *ADS1115 {
	a := &ADS1115{}
	a.por, a.advance = a.reset, a.progress
	a.reset()
	return a
}

// Start implements Device.
func (a *ADS1115) Start(bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = 0
	return a.answers()
}

// Write implements Device: the pointer, then two bytes for its register.
func (a *ADS1115) Write(b byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuses() {
		return false
	}
	a.advance()
	switch a.at {
	case 0:
		a.pointer = b & 3
	case 1:
		a.high = b
	case 2:
		a.set(uint16(a.high)<<8 | uint16(b))
	}
	a.at++
	return true
}

// Read implements Device: the two bytes of the register that is pointed to, over and over.
func (a *ADS1115) Read() byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance()
	a.at++
	v := a.registers[a.pointer]
	if a.pointer == adsConfig {
		v &^= adsOS
		if !a.converting {
			v |= adsOS
		}
	}
	if a.at%2 == 1 {
		return byte(v >> 8)
	}
	return byte(v)
}

// Stop implements Device.
func (a *ADS1115) Stop() {}

func (a *ADS1115) reset() {
	a.pointer, a.registers, a.converting = 0, [4]uint16{0, 0x8583, 0x8000, 0x7FFF}, false
}

func (a *ADS1115) set(v uint16) {
	if a.stale || a.pointer == adsConversion {
		return
	}
	a.registers[a.pointer] = v
	if a.pointer == adsConfig && (v&adsOS != 0 || v&adsSingleShot == 0) {
		a.started, a.converting = a.now(), true
	}
}

// progress lets conversions end that have. In continuous mode the result of the former channel stays until the first
// of the new one is there.
func (a *ADS1115) progress() {
	each := time.Second / time.Duration([8]int{8, 16, 32, 64, 128, 250, 475, 860}[a.registers[adsConfig]>>5&7])
	past := a.now().Sub(a.started)
	if !a.converting || a.never || past < each {
		return
	}
	if a.registers[adsConfig]&adsSingleShot != 0 {
		a.converting = false
	} else {
		a.started = a.started.Add(past / each * each)
	}
	if !a.stale {
		a.registers[adsConversion] = uint16(int16(a.convert()))
	}
}

func (a *ADS1115) convert() int {
	scale := a.Scale
	if scale == 0 {
		scale = 1
	}
	pair := [8][2]int{{0, 1}, {0, 3}, {1, 3}, {2, 3}, {0, -1}, {1, -1}, {2, -1}, {3, -1}}[a.registers[adsConfig]>>12&7]
	v := a.volts[pair[0]]
	if pair[1] >= 0 {
		v -= a.volts[pair[1]]
	}
	full := [8]float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256}[a.registers[adsConfig]>>9&7]
	return int(min(max(math.Round(v/scale/full*32768), -32768), 32767))
}
