package boardtest

import (
	"sync"
	"time"
)

// Chip is what all simulators have in common: power, and what goes wrong with it. It is part of each; its methods
// may be called while the bus is in use.
type Chip struct {
	// Now is the chip's clock; nil is time.Now. Set it before first use.
	Now func() time.Time

	mu    sync.Mutex // guards the whole simulator
	off   bool
	naks  int
	bytes int
	hung  bool
	por   func() // puts the registers to their power-on values
}

// NAK makes the chip not acknowledge its address: the next n times, or until NAK(0) if n is negative.
func (c *Chip) NAK(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.naks = n
}

// NAKData makes the chip acknowledge its address and then not the first byte written to it: the next n times, or
// until NAKData(0) if n is negative.
func (c *Chip) NAKData(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes = n
}

// Hang makes the chip hold the clock low, so that every transfer on its bus times out; or lets go of it.
func (c *Chip) Hang(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hung = on
}

// Hung reports whether the chip holds the clock.
func (c *Chip) Hung() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hung && !c.off
}

// BrownOut is a dip of the supply: the registers are as after power-on, and nobody is told.
func (c *Chip) BrownOut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.por()
}

// PowerOff takes the supply away: the chip drives nothing and answers nobody.
func (c *Chip) PowerOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = true
	c.por()
}

// PowerOn gives the supply back; the registers are as after power-on.
func (c *Chip) PowerOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = false
	c.por()
}

// answers reports whether the chip acknowledges its address. The caller holds the mutex, here and below.
func (c *Chip) answers() bool {
	return !c.off && !use(&c.naks)
}

// refuses reports whether the chip does not acknowledge a byte.
func (c *Chip) refuses() bool { return use(&c.bytes) }

func (c *Chip) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// use takes one from a count of faults, of which a negative one never ends.
func use(n *int) bool {
	if *n > 0 {
		*n--
		return true
	}
	return *n < 0
}
