package monitor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// bench is a board whose wires are in the test's hand. It is used within one synctest bubble, under its lock.
type bench struct {
	mu      sync.Mutex
	percent map[int]float64
	unknown string
	away    error // of Open and Scan
	scans   int
	tries   int
	opened  int
	closed  int
}

func (b *bench) open(context.Context) (board.Board, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries++
	if b.away != nil {
		return nil, b.away
	}
	b.opened++
	return b, nil
}

func (b *bench) Name() string { return "bench" }

func (b *bench) Scan(context.Context) (r []board.Reading, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scans++
	for n, p := range b.percent {
		r = append(r, board.Reading{Input: n, Time: time.Now(), Volts: p / 100 * board.FullScale, Unknown: b.unknown})
	}
	return r, b.away
}

func (b *bench) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed++
	return nil
}

func (b *bench) set(f func()) {
	b.mu.Lock()
	f()
	b.mu.Unlock()
	time.Sleep(100 * time.Millisecond) // at least one scan
	synctest.Wait()
}

// said is what a monitor emitted.
type said struct {
	events []monitor.Event
	fail   error
}

func (s *said) emit(e monitor.Event) error {
	s.events = append(s.events, e)
	return s.fail
}

// since returns the events from the i-th on in short.
func (s *said) since(i int) []string {
	short := []string{}
	for _, e := range s.events[i:] {
		short = append(short, strings.TrimSpace(fmt.Sprint(e.Event, " ", e.Zone)))
	}
	return short
}

// start runs m until the returned function is called.
func start(t *testing.T, m *monitor.Monitor) (stop func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return func() {
		cancel(errors.New("terminated signal received"))
		wg.Wait()
	}
}

func watching(b *bench, s *said) *monitor.Monitor {
	return &monitor.Monitor{
		Version: "1.2.3", Device: "calm-otter", Greeting: "hello", Open: b.open, Emit: s.emit,
		Interval: 50 * time.Millisecond, Heartbeat: 61025 * time.Millisecond,
		Inputs: []monitor.Input{
			{Number: 1, Name: "Hall", Zone: &zone.Legacy{Normal: 29}},
			{Number: 2, Name: "Door", Zone: &zone.Legacy{Normal: 50}},
		},
	}
}

func TestAChangeOnAWireIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := &bench{percent: map[int]float64{1: 29, 2: 50}}, &said{}
		stop := start(t, watching(b, s))
		b.set(func() {})
		b.set(func() { b.percent[1] = 51 })
		b.set(func() { b.percent[2] = 100; b.percent[1] = 29 })
		stop()
		if d := cmp.Diff([]string{"start", "alarm Hall", "restore Hall", "alarm Door", "stop"}, s.since(0)); d != "" {
			t.Error(d)
		}
		if e := s.events[1]; e.Input != 1 || *e.Value != 51 || time.Since(e.Time) > time.Second {
			t.Errorf("got %+v", e)
		}
		if b.opened != 1 || b.closed != 1 {
			t.Errorf("the board was opened %d times and closed %d times", b.opened, b.closed)
		}
	})
}

func TestTheBoardIsScannedTwentyTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{percent: map[int]float64{1: 29, 2: 50}}
		stop := start(t, watching(b, &said{}))
		time.Sleep(10*time.Second + time.Millisecond)
		stop()
		if b.scans != 200 {
			t.Errorf("%d scans in ten seconds", b.scans)
		}
	})
}

func TestABoardThatGoesAwayIsSaidOnceAndUsedAgainWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := &bench{percent: map[int]float64{1: 29, 2: 50}}, &said{}
		stop := start(t, watching(b, s))
		b.set(func() {})
		b.set(func() { b.away = errors.New("no such device") })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		var beats, other []monitor.Event
		for _, e := range s.events {
			if e.Event == monitor.Heartbeat {
				beats = append(beats, e)
			} else {
				other = append(other, e)
			}
		}
		if len(other) != 2 || other[1].Event != monitor.Fault || other[1].Reason != "no such device" {
			t.Errorf("got %+v", other)
		}
		if len(beats) != 9 || beats[8].Reason != "no such device" {
			t.Errorf("heartbeats: %+v", beats)
		}
		if b.tries < 10 || b.tries > 20 {
			t.Errorf("the board was tried %d times in ten minutes", b.tries)
		}
		n := len(s.events)
		b.set(func() { b.away, b.percent[1] = nil, 70 })
		time.Sleep(time.Minute)
		stop()
		got := strings.ReplaceAll(strings.Join(s.since(n), ", "), "heartbeat, ", "")
		if got != "restore, alarm Hall, stop" {
			t.Errorf("afterwards: %s", got)
		}
		if b.opened != 2 || b.closed != 2 {
			t.Errorf("the board was opened %d times and closed %d times", b.opened, b.closed)
		}
	})
}

func TestAnInputTheBoardLacksOrCannotReadIsAFaultOfItsZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := &bench{percent: map[int]float64{1: 29}}, &said{}
		stop := start(t, watching(b, s))
		time.Sleep(4 * time.Second)
		b.set(func() { b.unknown = "no answer from 0x68" })
		time.Sleep(4 * time.Second)
		stop()
		if d := cmp.Diff([]string{"start", "fault Door", "fault Hall", "stop"}, s.since(0)); d != "" {
			t.Fatal(d)
		}
		if s.events[1].Reason != "the board has no input 2" || s.events[2].Reason != "no answer from 0x68" {
			t.Errorf("got %q and %q", s.events[1].Reason, s.events[2].Reason)
		}
	})
}

func TestAHeartbeatSaysWhatIsNotNormal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := &bench{percent: map[int]float64{1: 29, 2: 50}}, &said{}
		stop := start(t, watching(b, s))
		time.Sleep(62 * time.Second)
		b.set(func() { b.percent[2] = 0 })
		time.Sleep(62 * time.Second)
		stop()
		var got []string
		for _, e := range s.events {
			if e.Event == monitor.Heartbeat {
				got = append(got, e.Reason)
			}
		}
		if d := cmp.Diff([]string{"all zones are normal", "Door: alarm"}, got); d != "" {
			t.Error(d)
		}
	})
}

func TestAnEventThatCannotBeSaidEndsTheMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := &bench{percent: map[int]float64{1: 29, 2: 50}}, &said{}
		m := watching(b, s)
		closed := errors.New("broken pipe")
		done := make(chan error)
		go func() { done <- m.Run(t.Context()) }()
		synctest.Wait()
		b.set(func() {})
		s.fail = closed
		b.set(func() { b.percent[1] = 90 })
		if err := <-done; !errors.Is(err, closed) {
			t.Errorf("it ended with %v", err)
		}
		if b.closed != 1 {
			t.Error("the board was not closed")
		}
	})
}

// The lines people read and programs parse. UPDATE=1 writes them anew.
func TestTwoMinutesOfTheSimulatedBoardAreTheseLines(t *testing.T) {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		loop := board.Loop{Idle: 0.29, Active: 0.51, Open: 0.78}
		tamper := 78
		m := watching(nil, nil)
		m.Inputs = []monitor.Input{
			{Number: 1, Name: "Hall Motion Detector (Ground floor)", Zone: &zone.Legacy{Normal: 29, Tamper: &tamper, Label: "tamper"}},
			{Number: 2, Name: "Porch Motion Detector (Outside)", Zone: &zone.Legacy{Normal: 29}},
		}
		m.Emit = monitor.Lines(&out)
		m.Open = func(context.Context) (board.Board, error) {
			return board.NewSimulated(11, time.Now(), map[int]board.Loop{1: loop, 2: loop}), nil
		}
		stop := start(t, m)
		time.Sleep(2*time.Minute + time.Millisecond)
		stop()
	})
	golden := filepath.Join("testdata", "simulated.golden")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Error(d)
	}
	for line := range strings.Lines(out.String()) {
		var e monitor.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Reason == "" {
			t.Errorf("%q: %v", line, err)
		}
	}
}
