// Package board owns the inputs as hardware: reading the voltage of each. It does not own what volts mean.
package board

import (
	"context"
	"time"
)

// Board reads inputs. One goroutine owns a Board; no method may be called concurrently with another.
type Board interface {
	// Name says in a few words what the board is.
	Name() string

	// Scan reads every input once. It may take as long as the converters need, tens of milliseconds, and returns
	// early when ctx ends. An input that cannot be read has a Reading that says so; an error means that the board
	// as a whole is away: the caller closes it and opens it again.
	Scan(ctx context.Context) ([]Reading, error)

	// Close lets go of the hardware. Called once, after the last Scan.
	Close() error
}

// Reading is what one input said.
type Reading struct {
	Input   int // from 1, as printed on the board
	Time    time.Time
	Volts   float64 // at the terminal
	Unknown string  // why the input could not be read; empty when it was
}

// FullScale is the supply that feeds the detectors' loops, and 100 % of every value, in volts.
const FullScale = 5.0
