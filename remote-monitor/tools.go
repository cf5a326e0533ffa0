package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/recording"
	"github.com/dunlin/dunlin/remote-monitor/recording/simulation"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func runDetect(k *call) error {
	if err := k.parse(0, 0); err != nil {
		return err
	}
	findings, err := board.Detect(k)
	if err != nil {
		return err
	}
	_, err = io.WriteString(k.stdout, board.Report(findings))
	return err
}

func runRecord(k *call) error {
	file := k.flags.String("config", "", "the configuration `FILE`")
	within := k.flags.Duration("for", 0, "stop by itself after this `TIME`")
	if err := k.parse(1, 1); err != nil {
		return err
	}
	c, err := k.configuration(*file)
	if err != nil {
		return err
	}
	if len(c.Board.Chips) == 0 {
		return config.Error{"no board is configured, so there is nothing to record; set REMOTE_MONITOR_BOARD=simulated to try it without hardware"}
	}
	if *within > 0 {
		ctx, stop := context.WithTimeout(k.Context, *within)
		defer stop()
		k.Context = ctx
	}
	// It looks and touches nothing: no outputs, no rules, nobody is told.
	c.Outputs, c.Rules, c.Relay.Outputs, c.Board.Outputs = nil, nil, nil, nil
	c.MQTT, c.AMQP, c.Page, c.Syslog, c.Ping, c.Sentry, c.Watchdog, c.Data = nil, nil, nil, nil, config.Ping{}, "", "", ""
	out, err := recording.Create(k.args[0], 0, 0)
	if err != nil {
		return err
	}
	var trouble error
	ctx, stop := context.WithCancel(k.Context)
	defer stop()
	r := &recording.Recorder{Writer: out, Zones: c.Site.Zones}
	m := &monitor.Monitor{Version: version, Greeting: "recording to " + k.args[0] + "; outputs stay as they are", Config: c, Open: opener(c), Emit: monitor.Lines(k.stdout), Log: textLog(k.stderr), OnScan: func(s zone.Scan) {
		if trouble == nil {
			if trouble = r.Scan(s); trouble != nil {
				stop()
			}
		}
	}}
	return errors.Join(m.Run(ctx), trouble, out.Close())
}

func runReplay(k *call) error {
	file := k.flags.String("config", "", "the configuration `FILE`; without it each zone has the shipped defaults")
	labels := k.flags.String("labels", "", "labels `FILE`, for --arm labels")
	arm := k.flags.String("arm", "", "when zones with a group are armed: as configured, always, or by the labels")
	all := k.flags.Bool("all", false, "also print what was suppressed")
	if err := k.parse(1, 1); err != nil {
		return err
	}
	o := recording.ReplayOptions{Arming: recording.Arming(*arm)}
	if o.Arming != recording.AsConfigured && o.Arming != recording.Always && o.Arming != recording.ByLabels {
		return usageError(fmt.Sprintf("--arm %s: want always or labels", *arm))
	}
	if *labels != "" {
		var err error
		if o.Labels, err = recording.LoadLabels(*labels); err != nil {
			return err
		}
	} else if o.Arming == recording.ByLabels {
		return usageError("--arm labels needs --labels FILE")
	}
	var c *config.Config
	if *file != "" {
		read, err := k.configuration(*file)
		if err != nil {
			return err
		}
		c = &read
	}
	out := bufio.NewWriter(k.stdout)
	emit := monitor.Lines(out)
	word := monitor.Words(config.Config{})
	if c != nil {
		word = monitor.Words(*c)
	}
	for e, err := range recording.Replay(recording.File(k.args[0]), c, o) {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if e.Kind == zone.Suppressed && !*all {
			continue
		}
		if err := emit(word(e)); err != nil {
			return err
		}
		if k.Err() != nil {
			return errors.Join(errors.New("interrupted"), out.Flush())
		}
	}
	return out.Flush()
}

// several is a flag that may be given more than once.
type several []string

func (s *several) String() string     { return strings.Join(*s, " ") }
func (s *several) Set(v string) error { *s = append(*s, v); return nil }

func runEvaluate(k *call) error {
	rec := k.flags.String("recording", "", "recording `FILE`: timestamp,zone,value")
	lab := k.flags.String("labels", "", "labels `FILE`: start,end,label (away, home or entry)")
	var configs several
	names, what := recording.Baselines()
	k.flags.Var(&configs, "config", "a configuration `FILE`, or one of: "+strings.Join(names, ", ")+"; may be given several times")
	baselines := k.flags.Bool("baselines", false, "compare with all that are built in:\n"+listed(names, what))
	arm := k.flags.String("arm", "always", "when zones are armed: always, or by the `labels`")
	within := k.flags.Duration("within", time.Minute, "an entry is detected if it is told within this `TIME`")
	sweep := k.flags.Bool("det", false, "sweep pulses, window and threshold of the first configuration, for the curve of misses against false alarms")
	asJSON := k.flags.Bool("json", false, "print JSON")
	if err := k.parse(0, 0); err != nil {
		return err
	}
	if *rec == "" || *lab == "" {
		return usageError("it needs --recording FILE and --labels FILE")
	}
	labels, err := recording.LoadLabels(*lab)
	if err != nil {
		return err
	}
	if len(configs) == 0 {
		configs = several{recording.Default}
	}
	if *baselines {
		for _, n := range names {
			if !slices.Contains(configs, n) {
				configs = append(configs, n)
			}
		}
	}
	var candidates []recording.Candidate
	for _, name := range configs {
		if slices.Contains(names, name) {
			c, err := recording.Baseline(name)
			if err != nil {
				return err
			}
			candidates = append(candidates, c)
			continue
		}
		if _, err := os.Stat(name); err != nil {
			return usageError(fmt.Sprintf("--config %s: there is no such file, and built in are %s", name, strings.Join(names, ", ")))
		}
		read, err := k.configuration(name)
		if err != nil {
			return err
		}
		candidates = append(candidates, recording.Candidate{Name: filepath.Base(name), Config: &read})
	}
	src := recording.File(*rec)
	if *sweep {
		survey, err := recording.Look(src)
		if err != nil {
			return err
		}
		analog := slices.ContainsFunc(survey.Zones, func(z recording.Surveyed) bool { return z.Kind == recording.Sample })
		candidates = append(candidates, recording.DefaultSweep(analog).Candidates(candidates[0])...)
	}
	report, err := recording.Evaluate(src, labels, candidates, recording.Options{Within: *within, Arming: recording.Arming(*arm)})
	if err != nil {
		return err
	}
	if *sweep {
		report.MarkFront()
	}
	if *asJSON {
		return report.JSON(k.stdout)
	}
	return report.Table(k.stdout)
}

func listed(names, what []string) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i, n := range names {
		fmt.Fprintf(t, "%s\t%s\n", n, what[i])
	}
	t.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func runSimulate(k *call) error {
	home := k.flags.String("home", "quiet", "the `NAME` of a home; list prints all")
	rec := k.flags.String("recording", "", "write the recording to `FILE`; - is standard output")
	lab := k.flags.String("labels", "", "write the labels to `FILE`")
	seed := k.flags.Uint64("seed", 1, "`NUMBER` that makes it repeat itself")
	days := k.flags.Int("days", 7, "how many days")
	volts := k.flags.Bool("volts", false, "volts of loops and analog detectors, 20 times a second, instead of ON and OFF: 2 MB an hour and zone")
	if err := k.parse(0, 0); err != nil {
		return err
	}
	if *home == "list" {
		t := tabwriter.NewWriter(k.stdout, 0, 0, 2, ' ', 0)
		for _, h := range simulation.Homes() {
			fmt.Fprintf(t, "%s\t%s\n", h.Name, h.About)
		}
		return t.Flush()
	}
	if *rec == "" {
		return usageError("it needs --recording FILE")
	}
	h, err := simulation.Named(*home)
	if err != nil {
		return usageError(err.Error())
	}
	trace, err := simulation.Simulate(h, simulation.Options{Seed: *seed, Days: *days})
	if err != nil {
		return usageError(err.Error())
	}
	if *lab != "" {
		if err := write(*lab, k.stdout, func(w io.Writer) error { return recording.WriteLabels(w, trace.Labels()) }); err != nil {
			return err
		}
	}
	return write(*rec, k.stdout, func(w io.Writer) error {
		rows := trace.Edges()
		if *volts {
			rows = trace.Volts(time.Time{}, time.Time{}, config.DefaultInterval)
		}
		out := recording.NewWriter(w)
		return errors.Join(out.WriteAll(rows), out.Close())
	})
}

// write makes a file, or writes to standard output for -.
func write(name string, stdout io.Writer, f func(io.Writer) error) error {
	if name == "-" {
		return f(stdout)
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f(file), file.Close())
}

// A loop's states as they are measured, in the order in which a person makes them.
var states = []struct{ key, say string }{
	{"normal", "Leave the detector alone"},
	{"alarm", "Make it see motion, and keep it so (walk about before it)"},
	{"open", "Open its lid, or cut the loop"},
	{"short", "Short the two wires of the loop"},
}

func runCalibrate(k *call) error {
	file := k.flags.String("config", "", "the configuration `FILE`")
	each := k.flags.Duration("for", 30*time.Second, "how long each state is measured")
	if err := k.parse(1, 1); err != nil {
		return err
	}
	c, err := k.configuration(*file)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(c.Zones, func(z config.Zone) bool { return z.ID == k.args[0] || z.Name == k.args[0] })
	if i < 0 {
		var names []string
		for _, z := range c.Zones {
			names = append(names, z.ID)
		}
		if len(names) == 0 {
			return config.Error{"no zones are configured, so there is nothing to calibrate; see remote-monitor example"}
		}
		return usageError(fmt.Sprintf("there is no zone %q; there are %s", k.args[0], strings.Join(names, ", ")))
	}
	// Outputs stay as they are: only inputs are used.
	c.Board.Outputs = nil
	b, err := opener(c)(k)
	if err != nil {
		return err
	}
	defer b.Close() // only read from
	in := bufio.NewReader(k.stdin)
	fmt.Fprintf(k.stdout, "# zone %s at %s\n", c.Zones[i].Name, c.Zones[i].Pin)
	levels := map[string]float64{}
	for _, s := range states {
		fmt.Fprintf(k.stderr, "%s, then press Enter (s and Enter leaves it out): ", s.say)
		answer, err := in.ReadString('\n')
		if err != nil && answer == "" {
			return errors.New("nothing more was answered")
		}
		if strings.TrimSpace(answer) == "s" {
			continue
		}
		percent, spread, err := k.measure(b, c, i, *each)
		if err != nil {
			return err
		}
		levels[s.key] = percent
		fmt.Fprintf(k.stderr, "  %.1f %%, within %.1f points\n", percent, spread)
	}
	return sayLevels(k.stdout, levels)
}

// measure is the median of a zone's level over a time, percent of the supply, and how far nine of ten samples are from it.
func (k *call) measure(b board.Board, c config.Config, i int, within time.Duration) (percent, spread float64, err error) {
	var all []float64
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	end := time.NewTimer(within)
	defer end.Stop()
	for over := false; !over; {
		select {
		case <-k.Done():
			return 0, 0, k.Err()
		case <-end.C:
			over = true
			continue
		case <-tick.C:
		}
		readings, err := b.Scan(k)
		if err != nil {
			return 0, 0, err
		}
		supply := board.FullScale
		var volts float64
		known := false
		for _, r := range readings {
			switch {
			case r.Unknown != "":
			case r.Pin == c.Zones[i].Pin:
				volts, known = r.Volts, true
			case r.Pin == c.Supply:
				supply = r.Volts * c.SupplyScale
			}
		}
		if known && supply > 0 {
			all = append(all, 100*volts/supply)
		}
	}
	if len(all) < 5 {
		return 0, 0, fmt.Errorf("only %d samples could be read; remote-monitor detect says what is on the bus", len(all))
	}
	slices.Sort(all)
	percent = all[len(all)/2]
	return percent, max(all[len(all)*95/100]-percent, percent-all[len(all)*5/100]), nil
}

// sayLevels prints what to write into the configuration.
func sayLevels(w io.Writer, levels map[string]float64) error {
	normal, ok := levels["normal"]
	alarm, both := levels["alarm"]
	if !ok || !both {
		return errors.New("the levels of normal and alarm are needed; measure them")
	}
	if d := max(alarm-normal, normal-alarm); d < 8 {
		return fmt.Errorf("normal and alarm are only %.1f points apart, which is too little to be told apart: did the detector see motion?", d)
	}
	fmt.Fprintln(w, "levels:")
	for _, s := range states {
		if v, ok := levels[s.key]; ok {
			fmt.Fprintf(w, "  %s: %.1f\n", s.key, v)
		}
	}
	return nil
}
