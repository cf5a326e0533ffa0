//go:build linux

package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// The USB/IP protocol (Documentation/usb/usbip_protocol.rst of the kernel): big-endian, 48 bytes of header.
const (
	cmdSubmit = 1
	cmdUnlink = 2
	retSubmit = 3
	retUnlink = 4
)

// header is what all four messages have, with the fields of a request.
type header struct {
	Command, Seq, Device, Direction, Endpoint    uint32
	Flags, Length, StartFrame, Packets, Interval uint32 // of an unlinking, Flags is the Seq that it is for
	Setup                                        setup
}

// setup is the setup packet of a control transfer (USB 2.0, 9.3). In USB/IP it is as on the wire: little-endian.
type setup struct {
	Type, Request byte
	Raw           [6]byte
}

func (s setup) value() uint16 { return binary.LittleEndian.Uint16(s.Raw[0:]) }
func (s setup) index() uint16 { return binary.LittleEndian.Uint16(s.Raw[2:]) }

// The device's descriptors (USB 2.0, 9.6): a vendor's device of full speed, with one interface without endpoints.
var (
	deviceDescriptor = []byte{18, 1, 0x10, 0x01, 0xff, 0, 0, 64, 0x03, 0x04, 0x31, 0xc6, 0x05, 0x02, 0, 0, 0, 1}
	configDescriptor = []byte{9, 2, 18, 0, 1, 1, 0, 0x80, 50, 9, 4, 0, 0, 0, 0xff, 0, 0, 0}
)

// The requests of an i2c-tiny-usb, as its driver in the kernel sends them. An I/O request has two more bits.
const (
	tinyEcho   = 0
	tinyFunc   = 1
	tinyDelay  = 2
	tinyStatus = 3
	tinyIO     = 4
	tinyBegin  = 1
	tinyEnd    = 2

	messageRead = 1 // I2C_M_RD, a flag of a message

	statusACK = 1
	statusNAK = 2

	// I2C_FUNC_I2C and the emulation of SMBus.
	tinyFunctions = 0x0eff0009
)

// outcome is what becomes of a control transfer.
type outcome int

const (
	answered outcome = iota
	stalled
	silent // never answered: the kernel gives up
)

// adapter is an i2c-tiny-usb: it makes signals on a wire out of what comes over USB.
type adapter struct {
	wire   *boardtest.Bus
	status byte // of the last message
}

// serve answers the kernel until it hangs up.
func (a *adapter) serve(conn io.ReadWriter) error {
	for {
		var h header
		if err := binary.Read(conn, binary.BigEndian, &h); err != nil {
			return err
		}
		reply := header{Command: retSubmit, Seq: h.Seq}
		var data []byte
		switch h.Command {
		case cmdUnlink:
			// Only a request that is never answered is still there to be unlinked.
			reply.Command, reply.Flags = retUnlink, errno(unix.ECONNRESET)
		case cmdSubmit:
			data = make([]byte, h.Length)
			if h.Direction == 0 {
				if _, err := io.ReadFull(conn, data); err != nil {
					return err
				}
			}
			n, what := a.control(h.Setup, data)
			if what == silent {
				continue
			}
			if what == stalled {
				reply.Flags = errno(unix.EPIPE)
			}
			reply.Length = uint32(n)
			data = data[:n]
			if h.Direction == 0 {
				data = nil
			}
		default:
			return fmt.Errorf("the kernel sends command %d", h.Command)
		}
		b, err := binary.Append(nil, binary.BigEndian, reply)
		if err != nil {
			return err
		}
		if _, err := conn.Write(append(b, data...)); err != nil {
			return err
		}
	}
}

// errno is the status of a reply.
func errno(e unix.Errno) uint32 { return uint32(-int32(e)) }

// control carries out a control transfer on data, which is what the kernel sends or room for what it reads.
func (a *adapter) control(s setup, data []byte) (n int, what outcome) {
	const standard, vendor, kind = 0x00, 0x40, 0x60
	switch {
	case s.Type&kind == standard:
		switch {
		case s.Request == 6 && s.value() == 0x0100:
			return copy(data, deviceDescriptor), answered
		case s.Request == 6 && s.value() == 0x0200:
			return copy(data, configDescriptor), answered
		case s.Request == 9, s.Request == 11: // set configuration, set interface
			return 0, answered
		case s.Request == 0: // get status
			return copy(data, []byte{0, 0}), answered
		}
	case s.Type&kind == vendor && s.Request >= tinyIO && s.Request <= tinyIO|tinyBegin|tinyEnd:
		return a.transfer(s, data)
	case s.Type&kind == vendor:
		switch s.Request {
		case tinyEcho:
			return copy(data, s.Raw[:2]), answered
		case tinyFunc:
			return copy(data, binary.LittleEndian.AppendUint32(nil, tinyFunctions)), answered
		case tinyDelay:
			return 0, answered
		case tinyStatus:
			return copy(data, []byte{a.status}), answered
		}
	}
	return 0, stalled
}

// transfer is one message of a transaction.
func (a *adapter) transfer(s setup, data []byte) (n int, what outcome) {
	err := a.wire.Transfer(boardtest.Message{
		Address: s.index(),
		Read:    s.value()&messageRead != 0,
		Begin:   s.Request&tinyBegin != 0,
		End:     s.Request&tinyEnd != 0,
		Data:    data,
	})
	a.status = statusACK
	switch {
	case errors.Is(err, boardtest.ErrNAK):
		a.status = statusNAK // which the kernel asks for
	case errors.Is(err, unix.ETIMEDOUT):
		return 0, silent
	case err != nil:
		return 0, stalled
	}
	return len(data), answered
}

// plug puts an adapter into a port of the virtual host controller and returns the number of its I2C bus once the kernel
// has made one. pull takes it out again and returns when the bus is gone; files of it are to be closed before. It does
// nothing the second time.
func plug(port int, wire *boardtest.Bus) (bus int, pull func() error, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	file := os.NewFile(uintptr(fds[1]), "usbip")
	conn, err := net.FileConn(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, nil, errors.Join(err, unix.Close(fds[0]))
	}
	before, err := buses()
	if err != nil {
		return 0, nil, errors.Join(err, unix.Close(fds[0]), conn.Close())
	}
	const device, fullSpeed = 1<<16 | 1, 2
	err = os.WriteFile(hostController+"attach", fmt.Appendf(nil, "%d %d %d %d", port, fds[0], device, fullSpeed), 0)
	if err := errors.Join(err, unix.Close(fds[0])); err != nil { // the kernel has its own hold of the socket
		return 0, nil, errors.Join(err, conn.Close())
	}
	served := make(chan error)
	go func() { served <- (&adapter{wire: wire}).serve(conn) }()
	pull = sync.OnceValue(func() error {
		if err := os.WriteFile(hostController+"detach", fmt.Append(nil, port), 0); err != nil {
			return errors.Join(err, conn.Close(), <-served)
		}
		var err error
		if end := <-served; end != io.EOF {
			err = fmt.Errorf("the adapter ended: %w", end)
		}
		return errors.Join(err, conn.Close(), await("the bus is gone", func() (bool, error) {
			now, err := buses()
			return !now[bus], err
		}))
	})
	err = await("the kernel makes a bus", func() (bool, error) {
		now, err := buses()
		for n := range now {
			if !before[n] {
				bus = n
				return true, err
			}
		}
		return false, err
	})
	if err != nil {
		return 0, nil, errors.Join(err, pull())
	}
	return bus, pull, nil
}

const hostController = "/sys/devices/platform/vhci_hcd.0/"
