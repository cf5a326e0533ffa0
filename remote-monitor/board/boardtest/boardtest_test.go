package boardtest_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// tx is a transaction that succeeds; it returns what was read.
func tx(t *testing.T, b *boardtest.Bus, addr uint16, w []byte, n int) []byte {
	t.Helper()
	r := make([]byte, n)
	if err := b.Tx(addr, w, r); err != nil {
		t.Fatalf("%#x % x: %v", addr, w, err)
	}
	return r
}

// gives fails the test if a read gives something else.
func gives(t *testing.T, b *boardtest.Bus, addr uint16, w []byte, want ...byte) {
	t.Helper()
	if got := tx(t, b, addr, w, len(want)); !bytes.Equal(got, want) {
		t.Errorf("%#x after % x gives % x, want % x", addr, w, got, want)
	}
}

func TestAnMCP3424ConvertsOnceOrOnAndOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := &boardtest.Bus{}, boardtest.NewMCP3424()
		m.Scale = 1
		b.Attach(0x68, m)
		m.SetVolts(1, 0.404)
		m.SetVolts(2, -0.001)
		gives(t, b, 0x68, nil, 0, 0, 0x90, 0x90) // just powered: nothing yet
		time.Sleep(5 * time.Millisecond)
		gives(t, b, 0x68, nil, 0x01, 0x94, 0x10, 0x90) // 404, new, and then read
		gives(t, b, 0x68, nil, 0x01, 0x94, 0x90)
		time.Sleep(5 * time.Millisecond)
		gives(t, b, 0x68, nil, 0x01, 0x94, 0x10)

		tx(t, b, 0x68, []byte{0xA0}, 0)
		gives(t, b, 0x68, nil, 0x01, 0x94, 0xA0) // the former result, until this one is over
		time.Sleep(4 * time.Millisecond)
		gives(t, b, 0x68, nil, 0x01, 0x94, 0xA0)
		time.Sleep(time.Millisecond)
		gives(t, b, 0x68, nil, 0xFF, 0xFF, 0x20)
		n := m.Conversions()
		time.Sleep(time.Hour)
		gives(t, b, 0x68, nil, 0xFF, 0xFF, 0xA0)
		tx(t, b, 0x68, []byte{0x20}, 0) // without RDY: no conversion
		time.Sleep(time.Hour)
		gives(t, b, 0x68, nil, 0xFF, 0xFF, 0xA0)
		if m.Conversions() != n {
			t.Error("it converted without being told")
		}

		tx(t, b, 0x68, []byte{0x8C}, 0) // 18 bits
		time.Sleep(266 * time.Millisecond)
		if m.Config() != 0x8C {
			t.Errorf("settings %#x before the end", m.Config())
		}
		time.Sleep(time.Millisecond)
		gives(t, b, 0x68, nil, 0x00, 0x65, 0x00, 0x0C, 0x8C)
		for bits, want := range map[byte]int{0: 240, 1: 60, 2: 15, 3: 3} {
			tx(t, b, 0x68, []byte{0x90 | bits<<2}, 0)
			n := m.Conversions()
			time.Sleep(time.Second + time.Millisecond)
			if got := m.Conversions() - n; got != want {
				t.Errorf("%d bits: %d conversions a second, want %d", 12+2*bits, got, want)
			}
		}
	})
}

func TestAnMCP3424EndsAtItsRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := &boardtest.Bus{}, boardtest.NewMCP3424()
		b.Attach(0x68, m)
		m.SetVolts(1, 100)
		time.Sleep(5 * time.Millisecond)
		gives(t, b, 0x68, nil, 0x07, 0xFF)
		m.SetVolts(1, -100)
		time.Sleep(5 * time.Millisecond)
		gives(t, b, 0x68, nil, 0xF8, 0x00)
	})
}

func TestAnADS1115GivesTheFormerResultUntilANewOneIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, a := &boardtest.Bus{}, boardtest.NewADS1115()
		b.Attach(0x48, a)
		gives(t, b, 0x48, []byte{1}, 0x85, 0x83)
		gives(t, b, 0x48, []byte{2}, 0x80, 0x00)
		gives(t, b, 0x48, []byte{3}, 0x7F, 0xFF)
		a.SetVolts(1, 1)
		a.SetVolts(2, 2)
		tx(t, b, 0x48, []byte{1, 0x42, 0xE3}, 0) // continuous, terminal 1, 4.096 V, 860 a second
		time.Sleep(2 * time.Millisecond)
		gives(t, b, 0x48, []byte{0}, 0x1F, 0x40)
		tx(t, b, 0x48, []byte{1, 0x52, 0xE3}, 0) // terminal 2
		gives(t, b, 0x48, []byte{0}, 0x1F, 0x40)
		time.Sleep(2 * time.Millisecond)
		gives(t, b, 0x48, []byte{0}, 0x3E, 0x80)
		tx(t, b, 0x48, []byte{1, 0x83, 0xE3}, 0) // one shot, terminal 1 against 2
		gives(t, b, 0x48, []byte{1}, 0x03, 0xE3)
		time.Sleep(2 * time.Millisecond)
		gives(t, b, 0x48, []byte{1}, 0x83, 0xE3)
		gives(t, b, 0x48, []byte{0}, 0xE0, 0xC0)
		tx(t, b, 0x48, []byte{0, 1, 2}, 0) // cannot be written
		gives(t, b, 0x48, nil, 0xE0, 0xC0, 0xE0, 0xC0)
	})
}

func TestAnMCP23017HasTwoMapsOfItsRegisters(t *testing.T) {
	b, m := &boardtest.Bus{}, boardtest.NewMCP23017()
	b.Attach(0x20, m)
	gives(t, b, 0x20, []byte{0}, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF)
	tx(t, b, 0x20, []byte{0x14, 0x12, 0x34}, 0)
	gives(t, b, 0x20, []byte{0x15}, 0x34, 0xFF)
	tx(t, b, 0x20, []byte{0x12, 0x56}, 0) // GPIOA writes the latch
	gives(t, b, 0x20, []byte{0x14}, 0x56)
	tx(t, b, 0x20, []byte{0x0B, 0xFF}, 0) // IOCON at its other address: BANK, SEQOP; bit 0 does not exist
	gives(t, b, 0x20, []byte{0x05}, 0xFE, 0xFE)
	gives(t, b, 0x20, []byte{0x0A}, 0x56)
	gives(t, b, 0x20, []byte{0x1A}, 0x34)
	gives(t, b, 0x20, []byte{0x0B}, 0)
	gives(t, b, 0x20, []byte{0x20}, 0)
	tx(t, b, 0x20, []byte{0x05, 0x80}, 0) // BANK, and the pointer goes on
	gives(t, b, 0x20, []byte{0x0A}, 0x56, 0xFF)
	gives(t, b, 0x20, []byte{0x1A}, 0x34, 0xFF)
	tx(t, b, 0x20, []byte{0x15, 0x20}, 0) // no BANK, SEQOP: a pair in turn
	gives(t, b, 0x20, []byte{0x14}, 0x56, 0x34, 0x56)
	m.BrownOut()
	if m.Register(boardtest.OLAT) != 0 || m.Register(boardtest.IODIR) != 0xFF {
		t.Error("a dip leaves registers")
	}
}

func TestAnMCP23017InterruptsUntilItIsRead(t *testing.T) {
	for _, clear := range []byte{boardtest.GPIO, boardtest.INTCAP} {
		b, m := &boardtest.Bus{}, boardtest.NewMCP23017()
		b.Attach(0x20, m)
		tx(t, b, 0x20, []byte{boardtest.GPINTEN, 0x03}, 0)
		m.SetPin(3, boardtest.High)
		if m.Interrupting() {
			t.Error("a line interrupts that is not enabled")
		}
		m.SetPin(2, boardtest.High)
		m.SetPin(1, boardtest.High)
		if !m.Interrupting() || m.Register(boardtest.INTF) != 0x02 || m.Register(boardtest.INTCAP) != 0x06 {
			t.Errorf("INTF %#x INTCAP %#x", m.Register(boardtest.INTF), m.Register(boardtest.INTCAP))
		}
		tx(t, b, 0x20, []byte{boardtest.OLAT}, 1)
		if !m.Interrupting() {
			t.Error("reading the latch clears it")
		}
		tx(t, b, 0x20, []byte{clear}, 1)
		if m.Interrupting() {
			t.Errorf("reading %#x does not clear it", clear)
		}
		tx(t, b, 0x20, []byte{boardtest.INTCON, 0x01}, 0) // against DEFVAL, 0
		m.SetPin(2, boardtest.Low)
		tx(t, b, 0x20, []byte{clear}, 1)
	}
}

func TestAPCA9535TogglesWithinAPair(t *testing.T) {
	b, p := &boardtest.Bus{}, boardtest.NewPCA9535()
	b.Attach(0x20, p)
	gives(t, b, 0x20, []byte{6}, 0xFF, 0xFF, 0xFF)
	gives(t, b, 0x20, []byte{2}, 0xFF, 0xFF)
	tx(t, b, 0x20, []byte{3, 1, 2, 3}, 0)
	gives(t, b, 0x20, []byte{2}, 2, 3, 2)
	p.SetPin(16, boardtest.High)
	gives(t, b, 0x20, []byte{0}, 0x00, 0x80)
	tx(t, b, 0x20, []byte{4, 0, 0xFF}, 0)
	tx(t, b, 0x20, []byte{0, 0xAA, 0xAA}, 0) // inputs cannot be written
	gives(t, b, 0x20, []byte{0}, 0x00, 0x7F)
	tx(t, b, 0x20, []byte{6, 0xFC}, 0)
	if got := p.Seen(1) + " " + p.Seen(2) + " " + p.Seen(3); got != "-0 -1 -" {
		t.Errorf("lines went through %s", got)
	}
	if steps := p.Steps(); len(steps) == 0 || steps[len(steps)-1].Register != boardtest.PCAConfig || steps[len(steps)-1].Value != 0xFC {
		t.Errorf("steps %+v", steps)
	}
}

func TestAPCF8574IsPulledUpOrLow(t *testing.T) {
	b, p := &boardtest.Bus{}, boardtest.NewPCF8574()
	b.Attach(0x20, p)
	gives(t, b, 0x20, nil, 0xFF, 0xFF)
	tx(t, b, 0x20, []byte{0xF0, 0xF1}, 0)
	gives(t, b, 0x20, nil, 0xF1)
	p.SetPin(8, boardtest.Low)
	p.SetPin(2, boardtest.High)
	gives(t, b, 0x20, nil, 0x71)
	p.Short(2, boardtest.High)
	gives(t, b, 0x20, nil, 0x73)
	if p.Seen(1) != "u0u" || p.Seen(2) != "u0" || p.Latch() != 0xF1 {
		t.Errorf("lines went through %s and %s", p.Seen(1), p.Seen(2))
	}
}

func TestTheBusFailsAsAnAdapterDoes(t *testing.T) {
	b, p, q := &boardtest.Bus{}, boardtest.NewPCF8574(), boardtest.NewPCF8574()
	b.Attach(0x20, p)
	b.Attach(0x21, q)
	fails := func(addr uint16, want error) {
		t.Helper()
		if err := b.Tx(addr, []byte{0}, nil); !errors.Is(err, want) {
			t.Errorf("%#x: %v, want %v", addr, err, want)
		}
	}
	fails(0x22, unix.EREMOTEIO)
	b.NAK = unix.ENXIO
	fails(0x22, unix.ENXIO)
	p.NAK(2)
	fails(0x20, unix.ENXIO)
	fails(0x20, unix.ENXIO)
	fails(0x20, nil)
	p.NAKData(1)
	fails(0x20, unix.ENXIO)
	fails(0x20, nil)
	p.Hang(true)
	fails(0x21, unix.ETIMEDOUT)
	p.PowerOff()
	fails(0x21, nil)
	fails(0x20, unix.ENXIO)
	p.Hang(false)
	p.PowerOn()
	fails(0x20, nil)
	b.FailAfter(1, unix.EAGAIN, 1)
	fails(0x20, nil)
	fails(0x20, unix.EAGAIN)
	fails(0x20, nil)
	b.Detach(0x21)
	fails(0x21, unix.ENXIO)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	fails(0x20, unix.ENODEV)
	b.Reopen()
	fails(0x20, nil)
	if got := b.Transactions(); got != 16 {
		t.Errorf("%d transactions", got)
	}
}

func TestATransactionCanBeSentInParts(t *testing.T) {
	b, m := &boardtest.Bus{}, boardtest.NewMCP23017()
	b.Attach(0x20, m)
	send := func(msg boardtest.Message) {
		t.Helper()
		if err := b.Transfer(msg); err != nil {
			t.Fatal(err)
		}
	}
	send(boardtest.Message{Address: 0x20, Begin: true, Data: []byte{boardtest.IODIR}})
	got := make([]byte, 2)
	send(boardtest.Message{Address: 0x20, Read: true, End: true, Data: got})
	if !bytes.Equal(got, []byte{0xFF, 0xFF}) {
		t.Errorf("read % x", got)
	}
	send(boardtest.Message{Address: 0x20, Begin: true, End: true}) // as i2cdetect asks
	if err := b.Transfer(boardtest.Message{Address: 0x21, Begin: true, End: true}); !errors.Is(err, boardtest.ErrNAK) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestATransactionTakesAsLongAsItsBits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &boardtest.Bus{Hertz: 100_000}
		b.Attach(0x68, boardtest.NewMCP3424())
		start := time.Now()
		tx(t, b, 0x68, nil, 3)
		if d := time.Since(start); d != 360*time.Microsecond {
			t.Errorf("four bytes take %v", d)
		}
	})
}

func TestADS3231GivesItsRegistersInTurn(t *testing.T) {
	b, d := &boardtest.Bus{}, boardtest.NewDS3231()
	b.Attach(0x68, d)
	gives(t, b, 0x68, []byte{0x12}, 0x40, 0x56, 0x34)
	tx(t, b, 0x68, []byte{0, 0x11}, 0)
	gives(t, b, 0x68, []byte{0}, 0x11)
	if d.Writes() != 4 {
		t.Errorf("%d bytes written", d.Writes())
	}
}
