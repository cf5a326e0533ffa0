package board

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"time"
)

// ads1115 is a converter of Texas Instruments (SBAS444), in single shots: in continuous mode the first result after a
// change of terminal is the former terminal's.
type ads1115 struct {
	gain  int // 0 is 2/3
	scale float64
	buf   [3]byte
}

// The registers and the bits of the configuration.
const (
	adsConversion = 0
	adsConfig     = 1
	adsReady      = 0x8000 // written: convert; read: not converting
	adsSingle     = 0x4000 // a terminal against ground
	adsOneShot    = 0x0100
	adsRate       = 5 << 5 // 250 a second, about as fast as an ADC Pi at 12 bits
	adsQuiet      = 0x0003 // no comparator
)

// config is the configuration for a terminal, without the bit that says ready.
func (a *ads1115) config(terminal int) uint16 {
	return adsSingle | uint16(terminal)<<12 | uint16(bits.Len(uint(a.gain)))<<9 | adsOneShot | adsRate | adsQuiet
}

func (a *ads1115) start(w *wire, addr uint16, terminal int) error {
	a.buf[0] = adsConfig
	binary.BigEndian.PutUint16(a.buf[1:], adsReady|a.config(terminal))
	return w.tx(addr, a.buf[:], nil)
}

func (a *ads1115) fetch(w *wire, addr uint16, terminal int) (code int, ready bool, why trouble, err error) {
	got, err := a.register(w, addr, adsConfig)
	if err != nil {
		return 0, false, trouble{}, err
	}
	switch wanted := a.config(terminal); {
	case got&^adsReady != wanted:
		return 0, false, trouble{quality: Stale, text: fmt.Sprintf(
			"the converter at 0x%02x on bus %s has settings 0x%04x instead of 0x%04x: it lost its power, or somebody else uses it", addr, w.name, got, wanted)}, nil
	case got&adsReady == 0:
		return 0, false, trouble{quality: Timeout, text: fmt.Sprintf("the converter at 0x%02x on bus %s is never ready", addr, w.name)}, nil
	}
	v, err := a.register(w, addr, adsConversion)
	return int(int16(v)), true, trouble{}, err
}

func (a *ads1115) register(w *wire, addr uint16, n byte) (uint16, error) {
	a.buf[0] = n
	err := w.tx(addr, a.buf[:1], a.buf[1:])
	return binary.BigEndian.Uint16(a.buf[1:]), err
}

// takes has the 10 % in it by which the rate may be off.
func (a *ads1115) takes() time.Duration { return 4500 * time.Microsecond }

func (a *ads1115) volts(code int) (float64, bool) {
	full := 6.144
	if a.gain > 0 {
		full = 4.096 / float64(a.gain)
	}
	return float64(code) * full / 32768 * a.scale, code == 32767 || code == -32768
}
