package board

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
)

// tries is how often a transaction is tried that ends in a timeout or a lost arbitration.
const tries = 3

// wire is an I2C bus in use. Transactions on it exclude each other, so that a watchdog may write to an expander while
// the loop is in a scan.
type wire struct {
	name string // as in Chip.Bus, without folders

	mu   sync.Mutex
	bus  i2c.BusCloser
	hung bool // the last transaction timed out to the end
	gone bool // for good; only a new handle of the bus may work
}

// trouble is why a chip could not be asked.
type trouble struct {
	quality Quality
	text    string // for people
	err     error
}

func (t *trouble) Error() string { return t.text }
func (t *trouble) Unwrap() error { return t.err }

// tx is a transaction with the chip at addr: a write, then a read, each of which may be empty. Its error is a trouble.
func (w *wire) tx(addr uint16, write, read []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := tries
	if w.hung {
		// A bus that hangs costs the adapter's timeout each time, and the loop has other work.
		n = 1
	}
	var err error
	for range n {
		err = w.bus.Tx(addr, write, read)
		if !errors.Is(err, unix.ETIMEDOUT) && !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	w.hung = errors.Is(err, unix.ETIMEDOUT)
	w.gone = w.gone || isGone(err)
	if err == nil {
		return nil
	}
	return w.explain(addr, err)
}

// explain says what an error of the adapter means.
func (w *wire) explain(addr uint16, err error) error {
	at := fmt.Sprintf("0x%02x on bus %s", addr, w.name)
	switch {
	// A Raspberry Pi's adapter has the first, most others the second for an address that nobody acknowledges.
	case errors.Is(err, unix.EREMOTEIO), errors.Is(err, unix.ENXIO):
		return &trouble{NAK, "nobody answers at " + at, err}
	case errors.Is(err, unix.ETIMEDOUT):
		return &trouble{Timeout, "the bus hangs while asking " + at, err}
	case errors.Is(err, unix.EAGAIN):
		return &trouble{Timeout, "the bus is never free to ask " + at, err}
	case isGone(err):
		return &trouble{Away, "bus " + w.name + " is gone", fmt.Errorf("%w: %w", ErrGone, err)}
	default:
		return &trouble{Away, fmt.Sprintf("asking %s: %v", at, err), err}
	}
}

// lost is an error when the bus is gone.
func (w *wire) lost() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return fmt.Errorf("%w: bus %s is gone", ErrGone, w.name)
	}
	return nil
}

func (w *wire) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bus.Close()
}

// isGone reports whether a device file stands for a device that is not there any more.
func isGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESHUTDOWN) || errors.Is(err, unix.EBADF) || errors.Is(err, os.ErrClosed)
}
