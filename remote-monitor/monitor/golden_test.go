package monitor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
)

// The lines people read and programs parse. UPDATE=1 writes them anew.
func TestTwoMinutesOfTheSimulatedBoardAreTheseLines(t *testing.T) {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		m := watching(nil, nil)
		m.Emit = monitor.Lines(&out)
		loop := board.Loop{Idle: 0.29, Active: 0.51, Open: 0.78}
		for i := range m.Config.Zones {
			m.Config.Zones[i].Pin.Chip = "sim"
			m.Config.Relay.Outputs[i].Pin = board.Pin{Chip: "sim", Number: 17 + i}
		}
		m.Config.Board = board.Config{
			Chips:   []board.Chip{{Name: "sim", Kind: board.Simulation}},
			Inputs:  []board.Pin{{Chip: "sim", Number: 1}, {Chip: "sim", Number: 2}},
			Outputs: []board.Pin{{Chip: "sim", Number: 17}, {Chip: "sim", Number: 18}},
			Loops:   map[board.Pin]board.Loop{{Chip: "sim", Number: 1}: loop, {Chip: "sim", Number: 2}: loop},
			Seed:    11,
		}
		m.Open = func(ctx context.Context) (board.Board, error) { return board.Open(ctx, m.Config.Board) }
		stop := start(t, m)
		time.Sleep(2*time.Minute + time.Millisecond)
		if err := stop(); err != nil {
			t.Error(err)
		}
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
		var e struct{ Time, Event, Reason string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time == "" || e.Event == "" || e.Reason == "" {
			t.Errorf("%q: %v", line, err)
		}
	}
}
