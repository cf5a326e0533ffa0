// Command remote-monitor watches motion detectors and says what happens, one line of JSON per event. It runs as a
// container or on its own. It is the wiring of its rooms and owns nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// hello is said at the start. Change it, push, and see the new one in the log.
const hello = "Hello from Remote Monitor"

// version may be set by the linker (-X main.version=…).
var version = "0.1.0"

// stopWithin bounds a stop whose last words nobody reads.
const stopWithin = time.Second

const usage = `Remote Monitor watches motion detectors and says what happens, one line of JSON per event.

Usage:
  remote-monitor [run]    watch until stopped
  remote-monitor version  print the version
  remote-monitor --help   print this

It is configured by environment variables:
  REMOTE_MONITOR_BOARD      where samples come from: simulated
  INPUT_<n>_NAME            name of input n, 1 to 16
  INPUT_<n>_TYPE            what it is, e.g. Motion Detector
  INPUT_<n>_LOCATION        where it is
  INPUT_<n>_VALUE_NORMAL    percentage of the supply when all is quiet (required for each input)
  INPUT_<n>_VALUE_TAMPER    percentage of the supply when somebody meddles
  INPUT_TAMPER_LABEL        what a tamper is called (tamper)
  SAMPLE_INTERVAL           time between two scans (50ms)
  REMOTE_MONITOR_HEARTBEAT  time between two signs of life (1m)
  REMOTE_MONITOR_SEED       number that makes the simulated board repeat itself
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the command with its exit code: 0 after a stop it was asked for, 1 when it cannot go on, 2 when it was told
// something that makes no sense.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"run"}
	}
	switch {
	case len(args) > 1:
		fmt.Fprintf(stderr, "remote-monitor: too many arguments\nhint: it is configured by environment variables; see remote-monitor --help\n")
		return 2
	case args[0] == "run":
		return watch(stdout, stderr)
	case args[0] == "version" || args[0] == "--version":
		fmt.Fprintf(stdout, "remote-monitor %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
		return 0
	case args[0] == "help" || args[0] == "--help" || args[0] == "-h":
		fmt.Fprint(stdout, usage)
		return 0
	default:
		fmt.Fprintf(stderr, "remote-monitor: unknown command %q\nhint: see remote-monitor --help\n", args[0])
		return 2
	}
}

func watch(stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// A log nobody reads holds a write up for ever; a container must stop all the same.
	context.AfterFunc(ctx, func() { time.AfterFunc(stopWithin, func() { os.Exit(1) }) })

	host, _ := os.Hostname()
	c, err := config.Parse(os.Environ(), host)
	if err != nil {
		fmt.Fprintf(stderr, "remote-monitor: the configuration makes no sense:\n%v\nhint: see remote-monitor --help\n", err)
		return 2
	}
	for _, name := range c.Unused {
		fmt.Fprintf(stderr, "remote-monitor: %s is set, and this version does not use it\n", name)
	}
	m := &monitor.Monitor{
		Version: version, Device: c.Device, Greeting: hello,
		Open: opener(c), Inputs: inputs(c), Interval: c.Interval, Heartbeat: c.Heartbeat, Emit: monitor.Lines(stdout),
	}
	if c.Samples {
		m.Greeting += "; no INPUT_1_NAME and so on is set, so these are sample zones"
	}
	if err := m.Run(ctx); err != nil {
		fmt.Fprintf(stderr, "remote-monitor: %v\n", err)
		return 1
	}
	return 0
}

// opener finds the board the configuration names.
func opener(c config.Config) func(context.Context) (board.Board, error) {
	return func(context.Context) (board.Board, error) {
		if c.Board == config.NoBoard {
			return nil, errors.New("no board is configured, so nothing is watched; set REMOTE_MONITOR_BOARD=simulated to try it without hardware")
		}
		loops := map[int]board.Loop{}
		for _, in := range c.Inputs {
			loops[in.Number] = loop(in)
		}
		return board.NewSimulated(c.Seed, time.Now(), loops), nil
	}
}

// loop is a detector as an input expects it. An alarm stands about 22 points from normal, as it does with the usual
// resistors, and away from the tamper level; a detector whose tamper level nobody gave is cut to 0 or 100 %.
func loop(in config.Input) board.Loop {
	open := 100
	if in.Normal > 50 {
		open = 0
	}
	if in.Tamper != nil {
		open = *in.Tamper
	}
	for _, d := range []int{22, -22, 44, -44, 66, -66} {
		active := in.Normal + d
		if active >= 0 && active <= 95 && max(active-open, open-active) > 15 {
			return board.Loop{Idle: share(in.Normal), Active: share(active), Open: share(open)}
		}
	}
	panic(fmt.Sprintf("remote-monitor: no alarm level between %d %% and %d %%", in.Normal, open))
}

func share(percent int) float64 { return float64(percent) / 100 }

// inputs gives each input a zone of the original's profile.
func inputs(c config.Config) []monitor.Input {
	var all []monitor.Input
	for _, in := range c.Inputs {
		z := &zone.Legacy{Normal: in.Normal, Tamper: in.Tamper, Label: in.TamperLabel}
		all = append(all, monitor.Input{Number: in.Number, Name: in.Key(), Zone: z})
	}
	return all
}
