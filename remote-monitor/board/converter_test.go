package board_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// same is a list of n times the same quality.
func same(q board.Quality, n int) []board.Quality { return slices.Repeat([]board.Quality{q}, n) }

func TestAnADCPiReadsWhatStandsAtItsTerminals(t *testing.T) {
	for _, bits := range []int{0, 12, 14, 16, 18} {
		synctest.Test(t, func(t *testing.T) {
			bus := &boardtest.Bus{}
			c, chips := adcPi(bus, bits)
			b := open(t, bus, c)
			volts := []float64{0, 1.45, 2.55, 3.9, 5, -0.5, 0.0025, -2}
			for i, v := range volts {
				chips[i/4].SetVolts(i%4+1, v)
			}
			step := 2.471 * 4.096 / math.Exp2(float64(max(bits, 12)))
			for i, r := range scan(t, b) {
				if r.Pin != c.Inputs[i] || r.Quality != board.Good || r.Unknown != "" || math.Abs(r.Volts-volts[i]) > step*0.51 {
					t.Errorf("%d bits, terminal %d with %v V: %+v", bits, i+1, volts[i], r)
				}
				if (r.Code < 0) != (volts[i] < 0) {
					t.Errorf("%d bits: %v V has code %d", bits, volts[i], r.Code)
				}
				if !r.Time.After(time.Now().Add(-time.Hour)) {
					t.Errorf("read at %v", r.Time)
				}
			}
		})
	}
}

func TestAVoltageReadsAsItselfOrAsABound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bits := rapid.SampledFrom([]int{12, 14, 16, 18}).Draw(rt, "bits")
		gain := rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(rt, "gain")
		scale := rapid.SampledFrom([]float64{0, 1, 3.3}).Draw(rt, "scale")
		volts := rapid.Float64Range(-12, 12).Draw(rt, "volts")
		divider := scale
		if scale == 0 {
			divider = 2.471
		}
		var r board.Reading
		synctest.Test(t, func(t *testing.T) {
			bus, chip := &boardtest.Bus{}, boardtest.NewMCP3424()
			chip.Scale = divider
			chip.SetVolts(3, volts)
			bus.Attach(0x6E, chip)
			r = scan(t, open(t, bus, board.Config{
				Chips:  []board.Chip{{Name: "adc", Kind: board.MCP3424, Addresses: []uint16{0x6E}, Bits: bits, Gain: gain, Scale: scale}},
				Inputs: pins("adc", 3),
			}))[0]
		})
		full := 2.048 / float64(gain) * divider
		step := full / math.Exp2(float64(bits-1))
		switch {
		case r.Unknown != "":
			rt.Fatalf("unknown: %+v", r)
		case r.Quality == board.Saturated:
			if math.Abs(volts) < full-2*step || math.Signbit(volts) != math.Signbit(r.Volts) || math.Abs(math.Abs(r.Volts)-full) > 2*step {
				rt.Fatalf("%v V of %v V is saturated: %+v", volts, full, r)
			}
		case math.Abs(r.Volts-volts) > 0.51*step:
			rt.Fatalf("%v V reads as %+v, a step is %v V", volts, r, step)
		}
	})
}

func TestAScanOfEightTerminalsTakesAboutTwentyMilliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &boardtest.Bus{Hertz: 100_000}
		c, _ := adcPi(bus, 12)
		b := open(t, bus, c)
		if d := took(t, b); d < 18*time.Millisecond || d > 24*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}

func TestAllConvertersConvertAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &boardtest.Bus{}, &boardtest.Bus{}
		c, _ := adcPi(one, 12)
		alone := took(t, open(t, one, c))

		c.Chips = append(c.Chips,
			board.Chip{Name: "adc2", Kind: board.MCP3424, Addresses: []uint16{0x6A, 0x6B}},
			board.Chip{Name: "far", Kind: board.MCP3424, Bus: "/dev/i2c-2", Addresses: []uint16{0x68}},
		)
		c.Inputs = slices.Concat(c.Inputs, pins("adc2", 1, 2, 3, 4, 5, 6, 7, 8), pins("far", 4, 3, 2, 1))
		one.Attach(0x6A, boardtest.NewMCP3424())
		one.Attach(0x6B, boardtest.NewMCP3424())
		far := boardtest.NewMCP3424()
		far.SetVolts(4, 1)
		two.Attach(0x68, far)
		b, err := machine(t, map[int]*boardtest.Bus{1: one, 2: two}).Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		r := scan(t, b)
		if d := time.Since(start); d != alone {
			t.Errorf("20 terminals of two buses take %v, 8 of one take %v", d, alone)
		}
		if d := cmp.Diff(same(board.Good, 20), qualities(r)); d != "" || math.Abs(r[16].Volts-1) > 0.002 {
			t.Errorf("%s far:4 reads %+v", d, r[16])
		}
		if err := b.Close(); err != nil || !one.Closed() || !two.Closed() {
			t.Errorf("closed: %v %v, %v", one.Closed(), two.Closed(), err)
		}
	})
}

// faults are what can happen to the first of two converters, and what its four terminals are worth then, in the
// scan in which it happens and in the one after it is over.
var faults = []struct {
	name   string
	begin  func(bus *boardtest.Bus, chip *boardtest.MCP3424)
	end    func(bus *boardtest.Bus, chip *boardtest.MCP3424)
	during []board.Quality
	other  board.Quality // of the other converter's terminals
	most   time.Duration
	says   string
}{
	{
		name:   "nobody answers",
		begin:  func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.NAK(-1) },
		end:    func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.NAK(0) },
		during: same(board.NAK, 4), most: 20 * time.Millisecond,
		says: "nobody answers at 0x68 on bus 1",
	},
	{
		name:   "nobody answers, as other adapters say it",
		begin:  func(b *boardtest.Bus, c *boardtest.MCP3424) { b.NAK = unix.ENXIO; c.NAK(-1) },
		end:    func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.NAK(0) },
		during: same(board.NAK, 4), most: 20 * time.Millisecond,
		says: "nobody answers at 0x68 on bus 1",
	},
	{
		name:   "settings are not acknowledged",
		begin:  func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.NAKData(1) },
		end:    func(*boardtest.Bus, *boardtest.MCP3424) {},
		during: same(board.NAK, 4), most: 20 * time.Millisecond,
		says: "nobody answers",
	},
	{
		name:   "power is away",
		begin:  func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.PowerOff() },
		end:    func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.PowerOn() },
		during: same(board.NAK, 4), most: 20 * time.Millisecond,
		says: "nobody answers",
	},
	{
		name:   "never ready",
		begin:  func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.NeverReady(true) },
		end:    func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.NeverReady(false) },
		during: same(board.Timeout, 4), most: 20 * time.Millisecond,
		says: "the converter at 0x68 on bus 1 is never ready",
	},
	{
		name:   "stale",
		begin:  func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.Stale(true) },
		end:    func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.Stale(false) },
		during: []board.Quality{board.Stale, board.Stale, board.Stale, board.Good}, most: 60 * time.Millisecond,
		says: "answers with settings 0x60 instead of 0x00",
	},
	{
		name: "the supply dips during the first conversion",
		begin: func(_ *boardtest.Bus, c *boardtest.MCP3424) {
			time.AfterFunc(2*time.Millisecond, c.BrownOut)
		},
		end:    func(*boardtest.Bus, *boardtest.MCP3424) {},
		during: []board.Quality{board.Stale, board.Good, board.Good, board.Good}, most: 40 * time.Millisecond,
		says: "it lost its power, or somebody else uses it",
	},
	{
		name: "somebody else reads the first result",
		begin: func(b *boardtest.Bus, _ *boardtest.MCP3424) {
			time.AfterFunc(4500*time.Microsecond, func() { _ = b.Tx(0x68, nil, make([]byte, 3)) })
		},
		end:    func(*boardtest.Bus, *boardtest.MCP3424) {},
		during: same(board.Timeout, 4), most: 20 * time.Millisecond,
		says: "never ready",
	},
	{
		name:   "the bus hangs",
		begin:  func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.Hang(true) },
		end:    func(_ *boardtest.Bus, c *boardtest.MCP3424) { c.Hang(false) },
		during: same(board.Timeout, 4), other: board.Timeout, most: time.Millisecond,
		says: "the bus hangs while asking 0x68 on bus 1",
	},
	{
		name:   "arbitration is lost twice",
		begin:  func(b *boardtest.Bus, _ *boardtest.MCP3424) { b.Fail(unix.EAGAIN, 2) },
		end:    func(*boardtest.Bus, *boardtest.MCP3424) {},
		during: same(board.Good, 4), most: 20 * time.Millisecond,
	},
	{
		name:   "two timeouts",
		begin:  func(b *boardtest.Bus, _ *boardtest.MCP3424) { b.Fail(unix.ETIMEDOUT, 2) },
		end:    func(*boardtest.Bus, *boardtest.MCP3424) {},
		during: same(board.Good, 4), most: 20 * time.Millisecond,
	},
	{
		name:   "arbitration is lost three times",
		begin:  func(b *boardtest.Bus, _ *boardtest.MCP3424) { b.Fail(unix.EAGAIN, 3) },
		end:    func(*boardtest.Bus, *boardtest.MCP3424) {},
		during: same(board.Timeout, 4), most: 20 * time.Millisecond,
		says: "the bus is never free",
	},
	{
		name:   "the adapter fails once",
		begin:  func(b *boardtest.Bus, _ *boardtest.MCP3424) { b.Fail(unix.EIO, 1) },
		end:    func(*boardtest.Bus, *boardtest.MCP3424) {},
		during: same(board.Away, 4), most: 20 * time.Millisecond,
		says: "asking 0x68 on bus 1",
	},
}

func TestABadSampleIsUnknownAndNoLevelAndTheNextOneIsGood(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := &boardtest.Bus{}
				c, chips := adcPi(bus, 12)
				b := open(t, bus, c)
				for i := range 4 {
					chips[0].SetVolts(i+1, float64(i+1))
					chips[1].SetVolts(i+1, float64(i+1))
				}
				if d := cmp.Diff(same(board.Good, 8), qualities(scan(t, b))); d != "" {
					t.Fatal("before: ", d)
				}
				f.begin(bus, chips[0])
				start := time.Now()
				r := scan(t, b)
				if d := time.Since(start); d > f.most {
					t.Errorf("the scan took %v", d)
				}
				if d := cmp.Diff(slices.Concat(f.during, same(f.other, 4)), qualities(r)); d != "" {
					t.Error("during: ", d)
				}
				for _, x := range r {
					switch {
					case (x.Unknown == "") != (x.Quality == board.Good):
						t.Errorf("%+v does not say whether it is known", x)
					case x.Unknown != "" && (x.Volts != 0 || x.Code != 0 || x.Time.IsZero()):
						t.Errorf("%+v has a value although nobody knows it", x)
					}
				}
				if !strings.Contains(r[0].Unknown, f.says) {
					t.Errorf("it says %q, want %q", r[0].Unknown, f.says)
				}
				f.end(bus, chips[0])
				synctest.Wait()
				r = scan(t, b)
				if d := cmp.Diff(same(board.Good, 8), qualities(r)); d != "" {
					t.Error("after: ", d)
				}
				for i, x := range r {
					if math.Abs(x.Volts-float64(i%4+1)) > 0.002 {
						t.Errorf("after: %+v", x)
					}
				}
			})
		})
	}
}

func TestABusThatHangsIsNotAskedMoreOftenThanIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &boardtest.Bus{}
		c, chips := adcPi(bus, 12)
		b := open(t, bus, c)
		chips[0].Hang(true)
		for scans, want := range []int{3 + 1, 1 + 1} { // a chip is done when it cannot be asked
			before := bus.Transactions()
			scan(t, b)
			if n := bus.Transactions() - before; n != want {
				t.Errorf("scan %d tries %d transactions, each of which costs a timeout; want %d", scans, n, want)
			}
		}
		chips[0].Hang(false)
		scan(t, b)
		bus.Fail(unix.ETIMEDOUT, 2)
		if d := cmp.Diff(same(board.Good, 8), qualities(scan(t, b))); d != "" {
			t.Error("a bus that works again is not tried again: ", d)
		}
	})
}

func TestANumberThatDoesNotFitIsNoResult(t *testing.T) {
	for bits, says := range map[int][]byte{
		12: {0x08, 0x00, 0x00}, // 2048, with the right settings
		14: {0xDF, 0xFF, 0x04},
		18: {0x02, 0x00, 0x00, 0x0C},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := &boardtest.Bus{}
			bus.Attach(0x68, &parrot{says: says})
			b := open(t, bus, board.Config{
				Chips:  []board.Chip{{Name: "adc", Kind: board.MCP3424, Addresses: []uint16{0x68}, Bits: bits}},
				Inputs: pins("adc", 1),
			})
			if r := scan(t, b)[0]; r.Quality != board.Stale || r.Volts != 0 || !strings.Contains(r.Unknown, "a number of more than") {
				t.Errorf("% x reads as %+v", says, r)
			}
		})
	}
}

func TestASlowConverterIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &boardtest.Bus{}
		c, chips := adcPi(bus, 12)
		chips[1].Speed = 0.4
		b := open(t, bus, c)
		if d := cmp.Diff(same(board.Good, 8), qualities(scan(t, b))); d != "" {
			t.Error(d)
		}
	})
}

func TestAnAbsentBoardDoesNotKeepTheOthersFromBeingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &boardtest.Bus{}
		c, _ := adcPi(bus, 12)
		bus.Detach(0x69)
		b := open(t, bus, c)
		if d := cmp.Diff(slices.Concat(same(board.Good, 4), same(board.NAK, 4)), qualities(scan(t, b))); d != "" {
			t.Error(d)
		}
	})
}

func TestABoardWhoseAdapterIsGoneIsOpenedAgain(t *testing.T) {
	for _, e := range []error{unix.ENODEV, unix.ESHUTDOWN, unix.EIO} {
		synctest.Test(t, func(t *testing.T) {
			bus := &boardtest.Bus{}
			c, _ := adcPi(bus, 12)
			c.Chips = append(c.Chips, board.Chip{Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}})
			c.Outputs = pins("io1", 1)
			bus.Attach(0x20, boardtest.NewMCP23017())
			h := machine(t, map[int]*boardtest.Bus{1: bus})
			b, err := h.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			start(t, b.Banks()[0], 1, 0)
			bus.Fail(e, -1)
			if r, err := b.Scan(t.Context()); !errors.Is(err, board.ErrGone) {
				t.Errorf("%v: scan gives %v, %v", e, r, err)
			}
			if err := b.Banks()[0].Write(t.Context(), 0); err == nil || errors.Is(err, board.ErrGone) != (e != unix.EIO) {
				t.Errorf("%v: write gives %v", e, err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			bus.Fail(nil, 0)
			if b, err = h.Open(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(same(board.Good, 8), qualities(scan(t, b))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAScanOfAConverterEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &boardtest.Bus{}
		c, _ := adcPi(bus, 18)
		b := open(t, bus, c)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := b.Scan(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		n := bus.Transactions()
		if _, err := b.Scan(ctx); err == nil || bus.Transactions() != n {
			t.Error("a scan without a living context asks the chips")
		}
		if d := cmp.Diff(same(board.Good, 8), qualities(scan(t, b))); d != "" {
			t.Error("the next scan: ", d)
		}
	})
}

func TestAnADS1115ReadsItsTerminalsInSingleShots(t *testing.T) {
	for _, gain := range []int{0, 1, 2, 4, 8, 16} {
		synctest.Test(t, func(t *testing.T) {
			bus, chip := &boardtest.Bus{Hertz: 100_000}, boardtest.NewADS1115()
			bus.Attach(0x48, chip)
			full := map[int]float64{0: 6.144, 1: 4.096, 2: 2.048, 4: 1.024, 8: 0.512, 16: 0.256}[gain]
			b := open(t, bus, board.Config{
				Chips:  []board.Chip{{Name: "ads", Kind: board.ADS1115, Addresses: []uint16{0x48}, Gain: gain}},
				Inputs: pins("ads", 4, 3, 2, 1),
			})
			for n, share := range []float64{0.1, -0.2, 0.9, 1.1} {
				chip.SetVolts(n+1, full*share)
			}
			start := time.Now()
			r := scan(t, b)
			if d := time.Since(start); d > 25*time.Millisecond {
				t.Errorf("a scan takes %v", d)
			}
			if d := cmp.Diff([]board.Quality{board.Saturated, board.Good, board.Good, board.Good}, qualities(r)); d != "" {
				t.Error(d)
			}
			for i, share := range []float64{32767. / 32768, 0.9, -0.2, 0.1} {
				if math.Abs(r[i].Volts-full*share) > full/32768 || (r[i].Code < 0) != (share < 0) {
					t.Errorf("gain %d: %+v, want %v V", gain, r[i], full*share)
				}
			}
		})
	}
}

func TestAnADS1115ThatFailsIsUnknown(t *testing.T) {
	for name, f := range map[string]struct {
		do   func(*boardtest.ADS1115)
		want []board.Quality
	}{
		"never ready": {func(c *boardtest.ADS1115) { c.NeverReady(true) }, same(board.Timeout, 2)},
		"stale":       {func(c *boardtest.ADS1115) { c.Stale(true) }, []board.Quality{board.Stale, board.Good}},
		"no answer":   {func(c *boardtest.ADS1115) { c.NAK(-1) }, same(board.NAK, 2)},
		"brown-out": {func(c *boardtest.ADS1115) { time.AfterFunc(2*time.Millisecond, c.BrownOut) },
			[]board.Quality{board.Stale, board.Good}},
		"answers not to its end": {func(c *boardtest.ADS1115) { time.AfterFunc(2*time.Millisecond, c.PowerOff) }, same(board.NAK, 2)},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus, chip := &boardtest.Bus{}, boardtest.NewADS1115()
			bus.Attach(0x4B, chip)
			b := open(t, bus, board.Config{
				Chips:  []board.Chip{{Name: "ads", Kind: board.ADS1115, Addresses: []uint16{0x4B}}},
				Inputs: pins("ads", 1, 2),
			})
			if d := cmp.Diff(same(board.Good, 2), qualities(scan(t, b))); d != "" {
				t.Fatal(d)
			}
			f.do(chip)
			if d := cmp.Diff(f.want, qualities(scan(t, b))); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		})
	}
}
