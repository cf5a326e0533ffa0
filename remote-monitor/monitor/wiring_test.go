package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
)

// house is a bus with an ADC Pi and one chip of an IO Pi, as the drivers see it.
type house struct {
	bus  *boardtest.Bus
	adc  *boardtest.MCP3424
	io   *boardtest.MCP23017
	host board.Host
}

func build(t *testing.T) *house {
	h := &house{bus: &boardtest.Bus{Hertz: 100_000}, adc: boardtest.NewMCP3424(), io: boardtest.NewMCP23017()}
	second := boardtest.NewMCP3424()
	h.bus.Attach(0x68, h.adc)
	h.bus.Attach(0x69, second)
	h.bus.Attach(0x20, h.io)
	for n := 1; n <= 4; n++ {
		h.adc.SetVolts(n, idle/100*5)
		second.SetVolts(n, idle/100*5)
	}
	h.host = board.Host{Root: t.TempDir(), I2C: func(n int) (i2c.BusCloser, error) {
		if n != 1 {
			return nil, fmt.Errorf("there is no bus %d", n)
		}
		h.bus.Reopen()
		return h.bus, nil
	}}
	return h
}

// watched runs a monitor on the house.
func (h *house) watched(t *testing.T, s *said) (*monitor.Monitor, func() error) {
	m := watching(nil, s)
	m.Config.Board = board.Config{
		Chips: []board.Chip{
			{Name: "adc1", Kind: board.MCP3424, Addresses: []uint16{0x68, 0x69}}, {Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}},
		},
		Inputs: []board.Pin{adc(1), adc(2)}, Outputs: []board.Pin{io(1), io(2)},
	}
	m.Open = func(ctx context.Context) (board.Board, error) { return h.host.Open(ctx, m.Config.Board) }
	stop := start(t, m)
	pass(time.Second)
	return m, stop
}

// on says whether the chip drives a line high.
func (h *house) on(n int) bool { return h.io.Pins()&(1<<(n-1)) != 0 }

func TestSomebodyInTheHallTurnsTheLightOnOverRealDrivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := build(t), &said{}
		m, stop := h.watched(t, s)
		h.adc.SetVolts(1, active/100*5)
		pass(500 * time.Millisecond)
		if !h.on(1) || h.on(2) {
			t.Errorf("light %v, gate %v", h.on(1), h.on(2))
		}
		// From the end of the deciding scan to the relay is one write of four bytes at 100 kHz.
		motion, on := s.events("motion"), s.events("on")
		if len(motion) != 1 || len(on) != 1 || on[0].Time.Sub(motion[0].Time) > 5*time.Millisecond {
			t.Errorf("motion %+v, on %+v", motion, on)
		}
		if v := m.Snapshot(); !v.Healthy || !v.Outputs[0].On {
			t.Errorf("%q, light %+v", v.Unhealthy, v.Outputs[0].Status)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if h.on(1) {
			t.Error("the light is on after the stop")
		}
	})
}

func TestAnExpanderThatLosesItsPowerInThePulseStaysOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := build(t), &said{}
		m, _ := h.watched(t, s)
		a := ask(m, bus.Command{Output: "gate", Action: "pulse", For: 5 * time.Second})
		pass(500 * time.Millisecond)
		if !h.on(2) {
			t.Fatal("the gate is off")
		}
		h.io.BrownOut()
		pass(3 * time.Second)
		if h.on(2) || len(s.events("expander_reset")) != 1 {
			t.Errorf("the gate is on: %v; %+v", h.on(2), s.events("expander_reset"))
		}
		if got := a.statuses(); !slices.Equal(got, []string{"accepted", "forced_off"}) {
			t.Errorf("answers: %q", got)
		}
		again := ask(m, bus.Command{Output: "gate", Action: "pulse"})
		pass(2 * time.Second)
		if got := again.statuses(); !slices.Equal(got, []string{"accepted", "done"}) {
			t.Errorf("afterwards: %q, %s", got, again.reason())
		}
	})
}

func TestABusThatIsGoneInThePulseIsOpenedAgainAndTheOutputOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := build(t), &said{}
		m, _ := h.watched(t, s)
		pass(time.Minute)
		a := ask(m, bus.Command{Output: "gate", Action: "pulse", For: 5 * time.Second})
		pass(500 * time.Millisecond)
		h.bus.Fail(unix.ENODEV, -1)
		pass(20 * time.Second)
		if v := m.Snapshot(); v.Healthy {
			t.Error("it is healthy without a bus")
		}
		h.bus.Fail(nil, 0)
		pass(5 * time.Second)
		if h.on(2) {
			t.Error("the gate is on")
		}
		if got := a.statuses(); len(got) != 2 || got[1] == "done" {
			t.Errorf("answers: %q", got)
		}
		if v := m.Snapshot(); !v.Healthy {
			t.Error(v.Unhealthy)
		}
	})
}

func TestAKillInThePulseLeavesTheLineToTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := build(t), &said{}
		m, stop := h.watched(t, s)
		ask(m, bus.Command{Output: "gate", Action: "pulse", For: 5 * time.Second})
		pass(time.Second)
		h.bus.Fail(errors.New("killed"), -1) // nothing reaches the chips any more
		_ = stop()
		h.bus.Fail(nil, 0)
		if !h.on(2) {
			t.Fatal("the gate is off")
		}
		h.io.Forget()
		s = &said{}
		h.watched(t, s)
		if h.on(2) || len(s.events("found_energised")) != 1 {
			t.Errorf("the gate is on: %v; %+v", h.on(2), s.events("found_energised"))
		}
		if seen := h.io.Seen(2); len(seen) > 2 {
			t.Errorf("the line of the gate showed %q: it is to go off once", seen)
		}
	})
}
