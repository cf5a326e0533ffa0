package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

const (
	logsAtOnce  = 8   // histories read at the same time
	mostFollows = 100 // devices followed at the same time; each is a connection
	defaultTail = 100
)

// logs is `dunlin logs`.
func (a *app) logs() *cobra.Command {
	var o struct {
		follow         bool
		lines          int
		since, service string
	}
	cmd := jsonFlag(&cobra.Command{
		Use:   "logs DEVICE|FLEET",
		Short: "Print the log of a device, or of all devices of a fleet by time",
		Long: "Print the log of a device, or of all devices of a fleet by time.\n\n" +
			"Between service and message stands | for standard output, ! for standard error, and * for what the agent says.\n" +
			"--follow goes on until Ctrl-C and survives lost connections; of a fleet it follows the devices it has now.",
		Example: "  dunlin logs brave-heron\n" +
			"  dunlin logs --follow --service main brave-heron\n" +
			"  dunlin logs --since 2h porch",
		Args:              words,
		ValidArgsFunction: a.complete(a.deviceOrFleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			opt := client.LogOptions{Count: o.lines}
			if o.lines < 0 {
				opt.Count = client.AllLines
			}
			if o.since != "" {
				at, err := parseSince(s.now, o.since)
				if err != nil {
					return err
				}
				if opt.Since = at; !s.cmd.Flags().Changed("lines") {
					opt.Count = client.AllLines
				}
			}
			devices, f, err := s.logSources(ctx, args[0])
			if err != nil {
				return err
			}
			if o.follow && len(devices) > mostFollows {
				return fault.Newf(fault.Invalid, "fleet %s has %d devices, which are too many to follow at once", f.Slug, len(devices)).
					WithHint("follow one device, or leave out --follow")
			}
			p, err := s.newLogPrinter(ctx, devices, f, o.service)
			if err != nil {
				return err
			}
			if len(devices) == 0 {
				s.note("Fleet %s has no device.", f.Slug)
				return nil
			}
			return s.printLogs(ctx, p, opt, o.follow)
		}),
	})
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with new lines until Ctrl-C")
	cmd.Flags().IntVarP(&o.lines, "lines", "n", defaultTail, "the newest so many lines; -1 for all that are kept")
	cmd.Flags().StringVar(&o.since, "since", "", "no lines before this `TIME`: 15m, 2h, 7d, 2026-01-31, '2026-01-31 18:00'")
	cmd.Flags().StringVarP(&o.service, "service", "s", "", "only lines of this `SERVICE`")
	return cmd
}

// logSources are the devices that word means, alone or as a fleet, and their fleet; alone, f has no slug.
func (s *session) logSources(ctx context.Context, word string) (all []client.Device, f client.Fleet, err error) {
	devices, err := s.devices(ctx, word)
	if err != nil {
		return nil, f, err
	}
	f, err = s.fleet(ctx, word)
	var e *fault.Error
	fleets := err == nil
	if err != nil && (!errors.As(err, &e) || e.Kind != fault.NotFound && e.Kind != fault.Invalid) {
		return nil, f, err
	}
	switch {
	case fleets && len(devices) > 0:
		return nil, f, ambiguous(word, "things", append(each(devices, fullName), f.Slug+" (a fleet)"))
	case fleets:
		all, err = s.DeviceNames(ctx, client.Filter("belongs_to__application eq ?", f.ID))
		return all, f, err
	case len(devices) > 1:
		return nil, f, ambiguous(word, "devices", each(devices, fullName))
	case len(devices) == 1:
		return devices, client.Fleet{Row: client.Row{ID: devices[0].Fleet.ID}}, nil
	case e.Kind == fault.Invalid:
		return nil, f, err // several fleets
	}
	return nil, f, fault.Newf(fault.NotFound, "there is no device and no fleet %q", word).
		WithHint("`dunlin device list` lists your devices, `dunlin fleet list` your fleets")
}

// logLine is a line with where it comes from.
type logLine struct {
	device client.Device
	client.Line
}

// printLogs prints the history of the devices as one, and then, with follow, what comes.
func (s *session) printLogs(ctx context.Context, p *logPrinter, o client.LogOptions, follow bool) error {
	ask := o
	if p.service != 0 && o.Count > 0 {
		ask.Count = client.AllLines // the server counts lines of all services
	}
	positions := make([]client.Position, len(p.devices))
	histories := make([][]logLine, len(p.devices))
	err := p.eachDevice(ctx, logsAtOnce, func(ctx context.Context, i int, d client.Device) error {
		ask := ask
		ask.Position = &positions[i]
		return s.Logs(ctx, d.UUID, ask, func(l client.Line) error {
			if p.wanted(l) {
				histories[i] = append(histories[i], logLine{d, l})
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	lines := slices.Concat(histories...)
	slices.SortStableFunc(lines, func(a, b logLine) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	if o.Count >= 0 {
		lines = lines[max(0, len(lines)-o.Count):]
	}
	for _, l := range lines {
		if err := p.print(l); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	return p.eachDevice(ctx, len(p.devices), func(ctx context.Context, i int, d client.Device) error {
		o := client.LogOptions{Follow: true, Position: &positions[i], Lost: func(err error) {
			p.note("lost the log of %s, trying again: %v", fullName(d), err)
		}}
		return s.Logs(ctx, d.UUID, o, func(l client.Line) error {
			if !p.wanted(l) {
				return nil
			}
			return p.print(logLine{d, l})
		})
	})
}

// logPrinter writes lines of several devices, one at a time.
type logPrinter struct {
	devices      []client.Device
	service      int64            // the only one wanted; 0 for all
	names        map[int64]string // of services
	asJSON       bool
	prefix       bool // with the device's name
	colours      bool
	deviceWidth  int
	serviceWidth int

	mu    sync.Mutex // holds out and notes
	out   io.Writer
	notes io.Writer
}

func (s *session) newLogPrinter(ctx context.Context, devices []client.Device, f client.Fleet, service string) (*logPrinter, error) {
	p := &logPrinter{
		devices: devices, names: map[int64]string{}, asJSON: s.asJSON, prefix: f.Slug != "",
		out: s.out(), notes: s.cmd.ErrOrStderr(), colours: colours(s.out()), serviceWidth: len(agentName),
	}
	if service != "" {
		if f.Slug == "" {
			f.Slug = devices[0].Fleet.Value().Slug
		}
		svc, err := s.service(ctx, f, service)
		if err != nil {
			return nil, err
		}
		p.service, p.names[svc.ID], p.serviceWidth = svc.ID, svc.Name, utf8.RuneCountInString(svc.Name)
	} else {
		all, err := s.Services(ctx, f.ID)
		if err != nil {
			return nil, err
		}
		for _, svc := range all {
			p.names[svc.ID] = svc.Name
			p.serviceWidth = max(p.serviceWidth, utf8.RuneCountInString(svc.Name))
		}
	}
	for _, d := range devices {
		p.deviceWidth = max(p.deviceWidth, utf8.RuneCountInString(d.Name))
	}
	return p, nil
}

// agentName stands where the service's name would, in lines that no service has written.
const agentName = "agent"

func (p *logPrinter) serviceName(l client.Line) string {
	switch name := p.names[l.ServiceID]; {
	case l.ServiceID == 0:
		return agentName
	case name == "":
		return fmt.Sprintf("service %d", l.ServiceID) // of a fleet it was in before
	default:
		return name
	}
}

func (p *logPrinter) wanted(l client.Line) bool { return p.service == 0 || l.ServiceID == p.service }

func (p *logPrinter) print(l logLine) error {
	text := p.format(l)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := io.WriteString(p.out, text)
	return err
}

func (p *logPrinter) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintln(p.notes, plain("note: "+fmt.Sprintf(format, args...), false)) // nothing depends on it
}

// The colours of SGR. Nothing is told by colour alone: the mark before the message says the same.
const (
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	reset = "\x1b[0m"
)

// palette tells devices apart; red is for standard error.
var palette = [...]string{"\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[93m", "\x1b[92m"}

// format is a line as it is printed: time, device if there are several, service, mark, message.
func (p *logPrinter) format(l logLine) string {
	if p.asJSON {
		b, err := json.Marshal(struct {
			DeviceName  string `json:"device_name"`
			UUID        string `json:"uuid"`
			ServiceName string `json:"service_name"`
			client.Line
		}{l.device.Name, l.device.UUID, p.serviceName(l.Line), l.Line})
		if err != nil {
			panic(fmt.Sprintf("cli: encode log line: %v", err)) // strings and numbers
		}
		return string(b) + "\n"
	}
	paint := func(colour, s string) string {
		if !p.colours || colour == "" {
			return s
		}
		return colour + s + reset
	}
	mark, colour := "|", ""
	switch {
	case l.IsSystem:
		mark, colour = "*", dim
	case l.IsStdErr:
		mark, colour = "!", red
	}
	var b strings.Builder
	head := paint(dim, l.Time().Local().Format(time.DateTime)) + "  "
	if p.prefix {
		name := fmt.Sprintf("%-*s", p.deviceWidth, cellText(l.device.Name))
		head += paint(palette[int(l.device.ID)%len(palette)], name) + "  "
	}
	head += fmt.Sprintf("%-*s ", p.serviceWidth, cellText(p.serviceName(l.Line))) + paint(colour, mark) + " "
	for part := range strings.SplitSeq(strings.TrimRight(l.Message, "\r\n"), "\n") {
		part = plain(part, p.colours)
		if p.colours && strings.Contains(part, "\x1b") {
			part += reset // a service that does not put its colours back
		}
		b.WriteString(head + paint(colour, part) + "\n")
	}
	return b.String()
}

// eachDevice calls f for each device, a few at a time, and waits for all. The first error ends the others and is
// returned, with the device's name if there are several.
func (p *logPrinter) eachDevice(ctx context.Context, atOnce int, f func(ctx context.Context, i int, d client.Device) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	turn := make(chan struct{}, atOnce)
	for i, d := range p.devices {
		wg.Go(func() {
			select {
			case turn <- struct{}{}:
				defer func() { <-turn }()
			case <-ctx.Done():
				return
			}
			if err := f(ctx, i, d); err != nil {
				if len(p.devices) > 1 && ctx.Err() == nil {
					err = fmt.Errorf("read the log of %s: %w", fullName(d), err)
				}
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
