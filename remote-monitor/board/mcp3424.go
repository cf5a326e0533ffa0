package board

import (
	"fmt"
	"math/bits"
	"time"
)

// mcp3424 is the converter of the ADC Pi (Microchip DS22088), one conversion at a time: in continuous mode the result
// of another terminal could be mistaken for this one's. Each result comes with the settings that it was made with.
type mcp3424 struct {
	bits  int
	gain  int
	scale float64
	buf   [4]byte
}

// mcpReady is written to start a conversion, and read while there is no new result.
const mcpReady = 0x80

// config is the configuration byte for a terminal, one-shot, without RDY.
func (m *mcp3424) config(terminal int) byte {
	return byte(terminal<<5 | (m.bits-12)/2<<2 | bits.TrailingZeros(uint(m.gain)))
}

// length is how many bytes a result has.
func (m *mcp3424) length() int {
	if m.bits == 18 {
		return 3
	}
	return 2
}

func (m *mcp3424) start(w *wire, addr uint16, terminal int) error {
	m.buf[0] = mcpReady | m.config(terminal)
	return w.tx(addr, m.buf[:1], nil)
}

func (m *mcp3424) fetch(w *wire, addr uint16, terminal int) (code int, ready bool, why trouble, err error) {
	n := m.length()
	if err := w.tx(addr, nil, m.buf[:n+1]); err != nil {
		return 0, false, trouble{}, err
	}
	code, sane := m.decode(m.buf[:n])
	switch got, wanted := m.buf[n], m.config(terminal); {
	case got&^mcpReady != wanted:
		return 0, false, trouble{quality: Stale, text: fmt.Sprintf(
			"the converter at 0x%02x on bus %s answers with settings 0x%02x instead of 0x%02x: it lost its power, or somebody else uses it", addr, w.name, got, wanted)}, nil
	case got&mcpReady != 0:
		return 0, false, trouble{quality: Timeout, text: fmt.Sprintf("the converter at 0x%02x on bus %s is never ready", addr, w.name)}, nil
	case !sane:
		return 0, false, trouble{quality: Stale, text: fmt.Sprintf("the converter at 0x%02x on bus %s answers with a number of more than %d bits", addr, w.name, m.bits)}, nil
	}
	return code, true, trouble{}, nil
}

// decode is a result as a number, which must repeat its sign in the bits above it.
func (m *mcp3424) decode(b []byte) (code int, sane bool) {
	code = int(int8(b[0]))
	for _, x := range b[1:] {
		code = code<<8 | int(x)
	}
	top := 1 << (m.bits - 1)
	return code, -top <= code && code < top
}

// takes has a margin: the datasheet gives typical rates only.
func (m *mcp3424) takes() time.Duration {
	t := [4]time.Duration{time.Second / 240, time.Second / 60, time.Second / 15, time.Second * 4 / 15}[(m.bits-12)/2]
	return t + t/20 + time.Millisecond/2
}

func (m *mcp3424) volts(code int) (float64, bool) {
	top := 1 << (m.bits - 1)
	return float64(code) * 2.048 / float64(top) / float64(m.gain) * m.scale, code == top-1 || code == -top
}
