// Package boardtest owns I2C chips that are not there: simulators that speak the bus byte by byte, with the registers,
// the power-up values and the faults of the real ones, and a bus to put them on. Tests of the drivers use the bus
// directly; the tests on a real kernel put it behind a USB adapter. It does not own what the drivers do with them, and
// the program never links it.
package boardtest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/physic"
)

// Device is the slave's side of the bus, one byte at a time. A Bus calls it from one goroutine at a time.
type Device interface {
	// Start is a start or repeated start with the device's address. It reports whether the device acknowledges it.
	Start(read bool) (ack bool)
	// Write takes a byte from the master and reports whether the device acknowledges it.
	Write(b byte) (ack bool)
	// Read gives the master the next byte.
	Read() byte
	// Stop ends a transaction that was acknowledged.
	Stop()
}

// hanger is a Device that can hold the clock low, which no other device on the bus survives.
type hanger interface{ Hung() bool }

// ErrNAK says that an address or a byte was not acknowledged. See Bus.Transfer.
var ErrNAK = errors.New("boardtest: not acknowledged")

// Message is a part of a transaction: a start with an address, then bytes in one direction.
type Message struct {
	Address    uint16
	Read       bool
	Begin, End bool   // the first and the last of the transaction: without Begin the start is a repeated one, End adds the stop
	Data       []byte // what is written, or where to put what is read
}

// Bus is a bus with simulated chips. It implements periph's i2c.BusCloser. Set the exported fields before first use;
// the methods may be called concurrently.
type Bus struct {
	Name  string // for String; "simulated" when empty
	Hertz int    // clock; a transaction takes as long as its bits do. 0: no time
	NAK   error  // what Tx returns when nobody acknowledges; nil: EREMOTEIO, as a Raspberry Pi has it. Other adapters have ENXIO.

	mu      sync.Mutex
	devices map[uint16]Device
	current Device // acknowledged its address in the transaction under way
	good    int    // transactions before those that fail
	fail    error
	failing int
	count   int
	closed  bool
}

// Attach puts a device on the bus, in place of what was at the address.
func (b *Bus) Attach(address uint16, d Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.devices == nil {
		b.devices = map[uint16]Device{}
	}
	b.devices[address] = d
}

// Detach pulls the device at the address off the bus.
func (b *Bus) Detach(address uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.devices, address)
}

// Fail makes the adapter fail with err: the next n transactions, or all that follow if n is negative. Fail(nil, 0)
// repairs it.
func (b *Bus) Fail(err error, n int) { b.FailAfter(0, err, n) }

// FailAfter is Fail after so many transactions that still succeed.
func (b *Bus) FailAfter(good int, err error, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.good, b.fail, b.failing = good, err, n
}

// Transactions is how many transactions there have been, failed ones included.
func (b *Bus) Transactions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// Closed reports whether Close was called since the last Reopen.
func (b *Bus) Closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Reopen undoes Close, so that a test can give the same bus out again.
func (b *Bus) Reopen() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = false
}

// String implements i2c.Bus.
func (b *Bus) String() string {
	if b.Name == "" {
		return "simulated"
	}
	return b.Name
}

// SetSpeed implements i2c.Bus. It changes nothing; see Hertz.
func (b *Bus) SetSpeed(physic.Frequency) error { return nil }

// Close implements i2c.BusCloser. What follows fails with ENODEV.
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// Tx implements i2c.Bus with the errors of Linux: a write, and after a repeated start a read. With neither it
// addresses the device for writing and stops.
func (b *Bus) Tx(addr uint16, w, r []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("bus %s: %w", b, unix.ENODEV)
	}
	var err error
	if len(w) > 0 || len(r) == 0 {
		err = b.transfer(Message{Address: addr, Begin: true, End: len(r) == 0, Data: w})
	}
	if err == nil && len(r) > 0 {
		err = b.transfer(Message{Address: addr, Read: true, Begin: len(w) == 0, End: true, Data: r})
	}
	switch {
	case errors.Is(err, ErrNAK) && b.NAK != nil:
		return fmt.Errorf("bus %s: %w", b, b.NAK)
	case errors.Is(err, ErrNAK):
		return fmt.Errorf("bus %s: %w", b, unix.EREMOTEIO)
	case err != nil:
		return fmt.Errorf("bus %s: %w", b, err)
	}
	return nil
}

// Transfer is one message of a transaction. It returns ErrNAK when the address or a byte is not acknowledged, which
// ends the transaction; ETIMEDOUT when a chip holds the clock; and the error of Fail.
func (b *Bus) Transfer(m Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.transfer(m)
}

func (b *Bus) transfer(m Message) error {
	if m.Begin {
		b.stop()
		b.count++
		if b.good > 0 {
			b.good--
		} else if use(&b.failing) {
			return b.fail
		}
	}
	for _, d := range b.devices {
		if h, ok := d.(hanger); ok && h.Hung() {
			return unix.ETIMEDOUT
		}
	}
	b.wire(1) // the address
	d := b.devices[m.Address]
	if d != b.current {
		b.stop()
	}
	if d == nil || !d.Start(m.Read) {
		b.stop()
		return ErrNAK
	}
	b.current = d
	for i := range m.Data {
		b.wire(1)
		if m.Read {
			m.Data[i] = d.Read()
		} else if !d.Write(m.Data[i]) {
			b.stop()
			return ErrNAK
		}
	}
	if m.End {
		b.stop()
	}
	return nil
}

// wire passes the time that n bytes with their acknowledgements take.
func (b *Bus) wire(n int) {
	if b.Hertz > 0 {
		time.Sleep(time.Duration(9*n) * time.Second / time.Duration(b.Hertz))
	}
}

func (b *Bus) stop() {
	if b.current != nil {
		b.current.Stop()
		b.current = nil
	}
}
