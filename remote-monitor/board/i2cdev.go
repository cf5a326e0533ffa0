package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// The ioctls of linux/i2c-dev.h.
const (
	i2cTimeout = 0x0702 // in units of 10 ms
	i2cFuncs   = 0x0705
	i2cRdwr    = 0x0707

	i2cFuncI2C = 1 // messages as they are, not only SMBus's
	i2cRead    = 1 // flag of a message
)

// busTimeout is how long the adapter waits for a chip that holds the clock, in units of 10 ms. Linux waits a second by
// default, longer than the loop can spare.
const busTimeout = 10

// i2cdev is a bus of Linux, through I2C_RDWR: atomic with its repeated start, and no address is bound to the file.
// It implements i2c.BusCloser; unlike periph's own it keeps the error numbers, and times out before the loop does.
type i2cdev struct {
	path  string
	sysfs string // exists as long as the adapter does
	fd    int

	messages [2]i2cMessage
	transfer i2cTransfer
}

// i2cMessage is struct i2c_msg: 12 bytes on 32-bit machines, 16 on the others.
type i2cMessage struct {
	address, flags, length uint16
	data                   unsafe.Pointer
}

// i2cTransfer is struct i2c_rdwr_ioctl_data.
type i2cTransfer struct {
	messages unsafe.Pointer
	count    uint32
}

// openI2C opens /dev/i2c-<number> of the machine at root.
func openI2C(root string, number int) (i2c.BusCloser, error) {
	name := "i2c-" + strconv.Itoa(number)
	class := filepath.Join(root, "/sys/class/i2c-dev", name)
	path, err := deviceNode(root, name, class)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no I2C bus %d on this machine; switch I2C on (raspi-config, or dtparam=i2c_arm=on in config.txt) and load i2c-dev", number)
	}
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	b := &i2cdev{path: path, sysfs: class, fd: fd}
	// An unsigned long of C.
	var funcs uintptr
	if err := ioctl(fd, i2cFuncs, unsafe.Pointer(&funcs)); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is no I2C bus: %w", path, err), b.Close())
	}
	if funcs&i2cFuncI2C == 0 {
		return nil, errors.Join(fmt.Errorf("the adapter of %s speaks SMBus only, and these chips need plain I2C; use another bus", path), b.Close())
	}
	// An adapter that knows no timeout keeps its own.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), i2cTimeout, busTimeout)
	return b, nil
}

// String implements i2c.Bus.
func (b *i2cdev) String() string { return b.path }

// SetSpeed implements i2c.Bus. Linux sets the clock in the device tree.
func (b *i2cdev) SetSpeed(physic.Frequency) error {
	return errors.New("the clock of an I2C bus is set in the device tree: dtparam=i2c_arm_baudrate=100000")
}

// Tx implements i2c.Bus. One goroutine at a time may call it.
func (b *i2cdev) Tx(addr uint16, w, r []byte) error {
	n := 0
	if len(w) > 0 || len(r) == 0 {
		b.messages[n] = i2cMessage{address: addr, length: uint16(len(w)), data: unsafe.Pointer(unsafe.SliceData(w))}
		n++
	}
	if len(r) > 0 {
		b.messages[n] = i2cMessage{address: addr, flags: i2cRead, length: uint16(len(r)), data: unsafe.Pointer(unsafe.SliceData(r))}
		n++
	}
	b.transfer = i2cTransfer{messages: unsafe.Pointer(&b.messages), count: uint32(n)}
	err := ioctl(b.fd, i2cRdwr, unsafe.Pointer(&b.transfer))
	b.messages = [2]i2cMessage{}
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EPROTO) || errors.Is(err, unix.EPIPE) {
		// A USB adapter that was pulled fails in some such way, and stays until its last file is closed.
		if _, serr := os.Stat(b.sysfs); errors.Is(serr, os.ErrNotExist) {
			err = unix.ENODEV
		}
	}
	return fmt.Errorf("%s: %w", b.path, err)
}

// Close implements i2c.BusCloser.
func (b *i2cdev) Close() error {
	err := unix.Close(b.fd)
	b.fd = -1
	return err
}
