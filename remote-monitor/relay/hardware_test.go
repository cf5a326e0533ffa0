package relay_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
	"github.com/dunlin/dunlin/remote-monitor/relay"
)

// bench is a rig whose chips are simulated byte by byte, behind the real drivers: io1 is an MCP23017, io2 a PCA9535.
type bench struct {
	*rig
	bus   *boardtest.Bus
	io1   *boardtest.MCP23017
	io2   *boardtest.PCA9535
	board board.Board
}

func newBench(t testing.TB, outputs ...relay.Output) *bench {
	b := &bench{rig: &rig{t: t, now: epoch}, bus: &boardtest.Bus{}, io1: boardtest.NewMCP23017(), io2: boardtest.NewPCA9535()}
	b.config.Outputs = outputs
	b.io1.Now = func() time.Time { return b.now }
	b.io2.Now = b.io1.Now
	b.bus.Attach(0x20, b.io1)
	b.bus.Attach(0x21, b.io2)
	b.open()
	b.run()
	return b
}

// open opens the board as the program does.
func (b *bench) open() {
	b.t.Helper()
	b.bus.Reopen()
	c := board.Config{Chips: []board.Chip{
		{Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}},
		{Name: "io2", Kind: board.PCA9535, Addresses: []uint16{0x21}},
	}}
	for _, o := range b.config.Outputs {
		c.Outputs = append(c.Outputs, o.Pin)
	}
	var err error
	b.board, err = board.Host{Root: b.t.TempDir(), I2C: func(int) (i2c.BusCloser, error) { return b.bus, nil }}.Open(b.t.Context(), c)
	if err != nil {
		b.t.Fatal(err)
	}
}

// run is a new run of the program.
func (b *bench) run(memory ...relay.Memory) {
	b.t.Helper()
	var err error
	if b.r, err = relay.New(b.config); err != nil {
		b.t.Fatal(err)
	}
	for _, m := range memory {
		b.r.Resume(overDisk(b.t, m), b.now)
	}
	b.took(b.r.Start(b.t.Context(), b.now, b.board.Banks()))
}

func (b *bench) wantSeen(chip interface{ Seen(int) string }, pin int, want string) {
	b.t.Helper()
	if got := chip.Seen(pin); got != want {
		b.t.Fatalf("the line of pin %d went through %q, want %q\n%+v", pin, got, want, b.events)
	}
}

func gate(changes ...func(*relay.Output)) relay.Output {
	o := relay.Output{Name: "gate", Pin: board.Pin{Chip: "io1", Number: 3}}
	for _, c := range changes {
		c(&o)
	}
	return o
}

func TestOnRealDriversAPulseIsAPulse(t *testing.T) {
	b := newBench(t, gate(), relay.Output{Name: "lamp", Pin: board.Pin{Chip: "io2", Number: 16}, Active: relay.ActiveLow})
	before := b.bus.Transactions()
	b.pulse("gate", time.Second)
	if n := b.bus.Transactions() - before; n != 1 {
		t.Errorf("%d transactions from the command to the line, want one", n)
	}
	b.pulse("lamp", 2*time.Second)
	b.pass(5 * time.Second)
	b.wantSeen(b.io1, 3, "-010")
	b.wantSeen(b.io2, 16, "-101")
	b.wantKinds("gate", relay.TurnedOn, relay.TurnedOff)
	b.wantKinds("lamp", relay.TurnedOn, relay.TurnedOff)
	b.wantKinds("")
}

func TestOnRealDriversAnOffThatIsNotAcknowledgedIsTriedUntilItIs(t *testing.T) {
	for name, c := range map[string]struct{ fail, repair func(*bench) }{
		"the address is not acknowledged":  {func(b *bench) { b.io1.NAK(-1) }, func(b *bench) { b.io1.NAK(0) }},
		"the register is not acknowledged": {func(b *bench) { b.io1.NAKData(-1) }, func(b *bench) { b.io1.NAKData(0) }},
		"the clock is held":                {func(b *bench) { b.io1.Hang(true) }, func(b *bench) { b.io1.Hang(false) }},
		"the adapter fails":                {func(b *bench) { b.bus.Fail(unix.EIO, -1) }, func(b *bench) { b.bus.Fail(nil, 0) }},
		"the chip keeps nothing":           {func(b *bench) { b.io1.Deaf(true) }, func(b *bench) { b.io1.Deaf(false) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, gate())
			b.do(relay.Command{ID: "1", Output: "gate", Action: relay.Pulse, For: time.Second, Source: "mqtt"})
			b.pass(time.Second - tick)
			c.fail(b)
			b.pass(15 * time.Second)
			b.wantSeen(b.io1, 3, "-01")
			if k := b.kinds("gate"); !slices.Contains(k, relay.Unconfirmed) || slices.Contains(k, relay.TurnedOff) {
				t.Errorf("events %v", k)
			}
			b.wantStatuses("1", relay.Accepted, relay.Failed)
			c.repair(b)
			b.pass(2 * time.Second)
			b.wantSeen(b.io1, 3, "-010")
			if k := b.kinds("gate"); !slices.Contains(k, relay.TurnedOff) || !slices.Contains(k, relay.Recovered) {
				t.Errorf("events %v", k)
			}
		})
	}
}

func TestOnRealDriversABrownOutEndsThePulse(t *testing.T) {
	b := newBench(t, gate(), relay.Output{Name: "lamp", Pin: board.Pin{Chip: "io2", Number: 1}, Active: relay.ActiveLow})
	b.do(relay.Command{ID: "1", Output: "gate", Action: relay.Pulse, For: 9 * time.Second})
	b.do(relay.Command{ID: "2", Output: "lamp", Action: relay.Pulse, For: 9 * time.Second})
	b.pass(3 * time.Second)
	b.io1.BrownOut()
	b.io2.BrownOut()
	b.pass(10 * time.Second)
	b.wantSeen(b.io1, 3, "-01-0")
	b.wantSeen(b.io2, 1, "-10-1")
	b.wantKinds("", relay.ExpanderReset, relay.ExpanderReset)
	b.wantKinds("gate", relay.TurnedOn, relay.Forced)
	b.wantStatuses("1", relay.Accepted, relay.ForcedOff)
	b.wantStatuses("2", relay.Accepted, relay.ForcedOff)
	b.pulse("gate", time.Second)
	b.wantSeen(b.io1, 3, "-01-01")
}

func TestOnRealDriversALossOfPowerEndsThePulse(t *testing.T) {
	b := newBench(t, gate())
	b.do(relay.Command{ID: "1", Output: "gate", Action: relay.Pulse, For: 9 * time.Second})
	b.pass(time.Second)
	b.io1.PowerOff()
	b.pass(5 * time.Second)
	b.io1.PowerOn()
	b.pass(5 * time.Second)
	b.wantSeen(b.io1, 3, "-01-0")
	b.wantStatuses("1", relay.Accepted, relay.Failed)
}

func TestOnRealDriversAKillMidPulseIsFoundAndGoesOffWithoutAGlitch(t *testing.T) {
	b := newBench(t, gate(), relay.Output{Name: "lamp", Pin: board.Pin{Chip: "io2", Number: 1}, Active: relay.ActiveLow})
	var disk relay.Memory
	b.r.Save = func(m relay.Memory) error { disk = overDisk(t, m); return nil }
	cmd := relay.Command{ID: "1", Output: "gate", Action: relay.Pulse, For: 9 * time.Second}
	b.do(cmd)
	b.pulse("lamp", 9*time.Second)
	b.pass(time.Second)
	b.io1.Forget()
	b.io2.Forget()
	b.events, b.acks = nil, nil
	b.open()
	b.run(disk)
	b.do(cmd)
	b.pass(20 * time.Second)
	b.wantSeen(b.io1, 3, "10")
	b.wantSeen(b.io2, 1, "01")
	b.wantKinds("gate", relay.FoundOn, relay.TurnedOff)
	b.wantKinds("lamp", relay.FoundOn, relay.TurnedOff)
	b.wantStatuses("1", relay.ForcedOff, relay.Accepted, relay.ForcedOff) // the last two again
}

func TestOnRealDriversAChipThatKeepsNothingIsFoundOnOnce(t *testing.T) {
	b := newBench(t, gate())
	b.pulse("gate", 9*time.Second)
	b.pass(time.Second)
	b.io1.Deaf(true)
	b.events = nil
	b.open()
	b.run()
	b.pass(25 * time.Second)
	b.wantKinds("gate", relay.FoundOn, relay.Unconfirmed, relay.Unconfirmed, relay.Unconfirmed)
	b.wantKinds("", relay.Mismatch)
	if why := b.rejected(relay.Command{Output: "gate", Action: relay.Pulse}); why == "" {
		t.Error("accepted")
	}
	b.io1.Deaf(false)
	b.pass(2 * time.Second)
	b.wantSeen(b.io1, 3, "-010")
}

func TestOnRealDriversAShortedPinIsAFault(t *testing.T) {
	b := newBench(t, gate())
	b.io1.Short(3, boardtest.Low)
	b.do(relay.Command{ID: "1", Output: "gate", Action: relay.Pulse, For: 9 * time.Second})
	b.pass(time.Second)
	b.wantKinds("gate", relay.Mismatch)
	b.wantStatuses("1", relay.Accepted, relay.Failed)
	b.wantSeen(b.io1, 3, "-010")
}

func TestOnRealDriversNoiseInTheRegistersKeepsNothingOn(t *testing.T) {
	for name, noise := range map[string]func(*bench){
		"another map of the registers": func(b *bench) { b.io1.Poke(boardtest.IOCON, 0x80) },
		"no direction":                 func(b *bench) { b.io1.Poke(boardtest.IODIR, 0xFF) },
		"another latch":                func(b *bench) { b.io1.Poke(boardtest.OLAT, 0xA4) },
		"pins read upside down":        func(b *bench) { b.io1.Poke(boardtest.IODIR, 0xFF); b.io1.Poke(boardtest.IPOL, 0xFF) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, gate(), relay.Output{Name: "lamp", Pin: board.Pin{Chip: "io1", Number: 14}})
			b.pulse("gate", 5*time.Second)
			b.pulse("lamp", 8*time.Second)
			b.pass(time.Second)
			noise(b)
			b.pass(8 * time.Second)
			if p := b.io1.Pins() & (1<<2 | 1<<13); p != 0 {
				t.Fatalf("lines %016b\n%+v", p, b.events)
			}
			b.pulse("gate", time.Second)
			b.pass(2 * time.Second)
			if k := b.kinds("gate"); !slices.Equal(k[len(k)-2:], []relay.EventKind{relay.TurnedOn, relay.TurnedOff}) {
				t.Errorf("events %v", k)
			}
		})
	}
}

func TestOnAPCF8574ABrownOutEndsThePulseToo(t *testing.T) {
	now := epoch
	chip := boardtest.NewPCF8574()
	chip.Now = func() time.Time { return now }
	bus := &boardtest.Bus{}
	bus.Attach(0x38, chip)
	pin := board.Pin{Chip: "io3", Number: 2}
	bd, err := board.Host{Root: t.TempDir(), I2C: func(int) (i2c.BusCloser, error) { return bus, nil }}.Open(t.Context(), board.Config{
		Chips:   []board.Chip{{Name: "io3", Kind: board.PCF8574, Addresses: []uint16{0x38}}},
		Outputs: []board.Pin{pin},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, now: now, config: relay.Config{Outputs: []relay.Output{{Name: "a", Pin: pin, Active: relay.ActiveLow}}}}
	if g.r, err = relay.New(g.config); err != nil {
		t.Fatal(err)
	}
	g.took(g.r.Start(t.Context(), g.now, bd.Banks()))
	low := func() bool { return chip.Pins()&2 == 0 }
	g.pulse("a", 9*time.Second)
	g.pass(time.Second)
	if !low() {
		t.Fatal("not on")
	}
	chip.BrownOut()
	for range 200 {
		g.pass(tick)
		if low() {
			t.Fatal("on again after a brown-out")
		}
	}
	g.wantKinds("", relay.ExpanderReset)
	g.wantKinds("a", relay.TurnedOn, relay.Forced)
	g.pulse("a", time.Second)
	g.pass(time.Second)
	g.wantKinds("a", relay.TurnedOn, relay.Forced, relay.TurnedOn, relay.TurnedOff)
}

// times are when an output was away from its safe state, by what its line was driven to.
type times struct{ from, to time.Time }

func away(steps []boardtest.Step, pin int, on boardtest.Drive, now time.Time) []times {
	var all []times
	is := false
	for _, s := range steps {
		was := is
		is = boardtest.Drive(s.Lines[pin-1]) == on
		switch {
		case is && !was:
			all = append(all, times{s.Time, time.Time{}})
		case was && !is:
			all[len(all)-1].to = s.Time
		}
	}
	if is {
		all[len(all)-1].to = now
	}
	return all
}

func TestOnRealDriversTheBoundsHoldWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		long := func(o *relay.Output) { o.MaxOn, o.Exclusive = 4*time.Second, "motor" }
		open, shut := gate(long), gate(long)
		shut.Name, shut.Pin, shut.Active = "shut", board.Pin{Chip: "io2", Number: 9}, relay.ActiveLow
		b := newBench(t, open, shut)
		commanded := map[time.Time]bool{}
		faults := false
		faulty := func(f func(*bench)) func(*rapid.T) { return func(*rapid.T) { faults = true; f(b) } }
		n := 0
		rt.Repeat(map[string]func(*rapid.T){
			"command": func(rt *rapid.T) {
				n++
				b.do(relay.Command{
					ID:     fmt.Sprint(n),
					Output: rapid.SampledFrom([]string{"gate", "shut"}).Draw(rt, "output"),
					Action: rapid.SampledFrom([]relay.Action{relay.Pulse, relay.On, relay.Off}).Draw(rt, "action"),
					For:    time.Duration(rapid.IntRange(0, 5).Draw(rt, "seconds")) * time.Second,
					Source: "rule",
				})
				commanded[b.now] = true
				b.pass(time.Millisecond)
			},
			"wait": func(rt *rapid.T) { b.pass(time.Duration(rapid.IntRange(1, 100).Draw(rt, "ticks")) * tick) },
			"nak":  faulty(func(b *bench) { b.io1.NAK(rapid.IntRange(1, 9).Draw(rt, "times")) }),
			"half": faulty(func(b *bench) { b.io2.NAKData(rapid.IntRange(1, 9).Draw(rt, "times")) }),
			"fail": faulty(func(b *bench) {
				b.bus.FailAfter(rapid.IntRange(0, 3).Draw(rt, "good"), unix.EIO, rapid.IntRange(1, 40).Draw(rt, "bad"))
			}),
			"brown-out": faulty(func(b *bench) { b.io1.BrownOut() }),
			"power":     faulty(func(b *bench) { b.io2.PowerOff(); b.pass(time.Second); b.io2.PowerOn() }),
			"kill":      func(*rapid.T) { b.open(); b.run() },
		})
		b.io1.NAK(0)
		b.io2.NAKData(0)
		b.bus.Fail(nil, 0)
		b.pass(8 * time.Second)
		all := [][]times{away(b.io1.Steps(), 3, boardtest.High, b.now), away(b.io2.Steps(), 9, boardtest.Low, b.now)}
		for _, ts := range all {
			for _, on := range ts {
				if !commanded[on.from] {
					rt.Fatalf("something came on %s after the start, and nobody had commanded it", on.from.Sub(epoch))
				}
				if d := on.to.Sub(on.from); !faults && d > 4*time.Second+tick {
					rt.Fatalf("on for %s", d)
				}
				if on.to.Equal(b.now) {
					rt.Fatal("on in the end")
				}
			}
		}
		for _, a := range all[0] {
			for _, c := range all[1] {
				if a.from.Before(c.to.Add(relay.DefaultDead)) && c.from.Before(a.to.Add(relay.DefaultDead)) {
					rt.Fatalf("one was on from %s to %s, the other from %s to %s", a.from.Sub(epoch), a.to.Sub(epoch), c.from.Sub(epoch), c.to.Sub(epoch))
				}
			}
		}
	})
}
