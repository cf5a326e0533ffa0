package page

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// number is a float as JSON can have it: to three decimals, and null where it is not known.
type number float64

func (n number) MarshalJSON() ([]byte, error) { return n.append(nil, 3), nil }

func (n number) append(b []byte, decimals int) []byte {
	f, scale := float64(n), math.Pow10(decimals)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	if r := math.Round(f * scale); math.Abs(r) < 1<<53 {
		f = r / scale
	}
	if f == 0 {
		f = 0 // a negative zero would read as -0
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

// moment is a time in UTC, or null for the zero time.
type moment time.Time

func (m moment) MarshalJSON() ([]byte, error) {
	if t := time.Time(m); !t.IsZero() {
		return t.UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
	}
	return []byte("null"), nil
}

func seconds(d time.Duration) number { return number(d.Seconds()) }

// head is what is said of the whole.
type head struct {
	Device    string `json:"device"`
	Version   string `json:"version"`
	Board     string `json:"board"`
	Trouble   string `json:"trouble"`
	Started   moment `json:"started"`
	Healthy   bool   `json:"healthy"`
	Unhealthy string `json:"unhealthy"`
}

// live is what differs in each scan.
type live struct {
	Time     moment `json:"time"`
	Scans    uint64 `json:"scans"`
	LastScan moment `json:"lastScan"`
	Lag      number `json:"lagSeconds"`
	Took     number `json:"tookSeconds"`
	Supply   number `json:"supply"` // volts; null: not measured
}

// zoneView is a zone; reading and level differ in each scan and travel apart from the rest.
type zoneView struct {
	ID              string      `json:"id"`
	Name            string      `json:"name"`
	Type            string      `json:"type"`
	Location        string      `json:"location"`
	Pin             string      `json:"pin"`
	Group           string      `json:"group"`
	Signal          string      `json:"signal"`
	State           string      `json:"state"`
	Since           moment      `json:"since"`
	Motion          bool        `json:"motion"`
	LastMotion      moment      `json:"lastMotion"`
	Reason          string      `json:"reason"`
	Quarantined     moment      `json:"quarantined"` // until when
	Swinger         bool        `json:"swinger"`
	WarmUp          bool        `json:"warmUp"`
	Silent          bool        `json:"silent"`
	Known           bool        `json:"known"`
	Thresholds      []threshold `json:"thresholds"`
	Suppressed      []candidate `json:"suppressed"` // newest first
	AlarmsToday     int         `json:"alarmsToday"`
	SuppressedToday int         `json:"suppressedToday"`

	*level
}

type level struct {
	Percent  number `json:"percent"`
	Volts    number `json:"volts"`
	Baseline number `json:"baseline"`
	Noise    number `json:"noise"`
}

type threshold struct {
	Name    string `json:"name"`
	Percent number `json:"percent"`
}

// candidate is one that came to nothing.
type candidate struct {
	Time    moment `json:"time"`
	Stage   string `json:"stage"`
	Reason  string `json:"reason"`
	Percent number `json:"percent"`
	Pulses  int    `json:"pulses"`
}

type groupView struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Since moment `json:"since"`
	Until moment `json:"until"`
	By    string `json:"by"`
}

type outputView struct {
	ID        string `json:"id"`
	Label     string `json:"label"`
	Type      string `json:"type"`
	Location  string `json:"location"`
	Pin       string `json:"pin"`
	Momentary bool   `json:"momentary"`
	On        bool   `json:"on"` // as read back
	Wanted    bool   `json:"wanted"`
	Since     moment `json:"since"`
	Until     moment `json:"until"`
	Fault     string `json:"fault"`
	Source    string `json:"source"`
	TotalOn   number `json:"totalOnSeconds"`
}

type brokerView struct {
	Name      string `json:"name"`
	Connected bool   `json:"connected"`
	Since     moment `json:"since"`
	Waiting   int    `json:"waiting"`
	Dropped   uint64 `json:"dropped"`
	Trouble   string `json:"trouble"`
}

// eventView is an event with numbers that JSON can have.
type eventView struct {
	bus.Event
	Time    moment  `json:"time"`
	Seconds *number `json:"duration,omitempty"`
	Percent *number `json:"value,omitempty"`
	Volts   *number `json:"volts,omitempty"`
}

func viewHead(s monitor.Snapshot) head {
	return head{
		Device: s.Device, Version: s.Version, Board: s.Board, Trouble: s.Trouble,
		Started: moment(s.Started), Healthy: s.Healthy, Unhealthy: s.Unhealthy,
	}
}

func viewLive(s monitor.Snapshot) live {
	supply := number(s.Supply)
	if s.Supply == 0 {
		supply = number(math.NaN())
	}
	return live{
		Time: moment(s.Time), Scans: s.Scans, LastScan: moment(s.LastScan),
		Lag: seconds(s.Lag), Took: seconds(s.Took), Supply: supply,
	}
}

func viewZone(z monitor.ZoneView) zoneView {
	v := zoneView{
		ID: z.ID, Name: z.Name, Type: z.Type, Location: z.Location, Pin: z.Pin.String(), Group: z.Group,
		Signal: string(z.Signal), State: string(z.State), Since: moment(z.Since), Motion: z.Motion, LastMotion: moment(z.LastMotion),
		Reason: z.Reason, Quarantined: moment(z.Quarantined), Swinger: z.Swinger, WarmUp: z.WarmUp, Silent: z.Silent, Known: z.Known,
		AlarmsToday: z.AlarmsToday, SuppressedToday: z.SuppressedToday,
		Thresholds: make([]threshold, 0, len(z.Thresholds)), Suppressed: make([]candidate, 0, len(z.Recent)),
	}
	for _, t := range z.Thresholds {
		// A tenth of a point cannot be seen, and less would be sent again with every scan.
		v.Thresholds = append(v.Thresholds, threshold{t.Name, number(math.Round(t.Percent*10) / 10)})
	}
	for _, e := range z.Recent {
		v.Suppressed = append(v.Suppressed, candidate{moment(e.Time), string(e.Stage), e.Reason, number(e.Percent), e.Pulses})
	}
	return v
}

func viewLevel(z monitor.ZoneView) *level {
	l := &level{number(z.Percent), number(z.Volts), number(math.NaN()), number(math.NaN())}
	if !z.Known {
		l.Percent, l.Volts = number(math.NaN()), number(math.NaN())
	}
	if z.Signal == zone.Analog {
		l.Baseline, l.Noise = number(z.Baseline), number(z.Noise)
	}
	return l
}

func viewGroups(groups []zone.GroupStatus) []groupView {
	all := make([]groupView, 0, len(groups))
	for _, g := range groups {
		all = append(all, groupView{g.Name, string(g.State), moment(g.Since), moment(g.Until), g.By})
	}
	return all
}

func viewOutputs(outputs []monitor.OutputView) []outputView {
	all := make([]outputView, 0, len(outputs))
	for _, o := range outputs {
		label := o.Label
		if label == "" {
			label = o.ID
		}
		all = append(all, outputView{
			ID: o.ID, Label: label, Type: o.Type, Location: o.Location, Pin: o.Pin.String(), Momentary: o.Momentary,
			On: o.On, Wanted: o.Wanted, Since: moment(o.Since), Until: moment(o.Until), Fault: o.Fault, Source: o.Source,
			// Whole seconds: nobody needs it finer, and it would be sent again all the time.
			TotalOn: number(math.Floor(o.TotalOn.Seconds())),
		})
	}
	return all
}

func viewBrokers(brokers []bus.Health) []brokerView {
	all := make([]brokerView, 0, len(brokers))
	for _, b := range brokers {
		all = append(all, brokerView{b.Name, b.Connected, moment(b.Since), b.Waiting, b.Dropped, b.Trouble})
	}
	return all
}

func viewEvent(e bus.Event) eventView {
	v := eventView{Event: e, Time: moment(e.Time)}
	if e.Seconds != 0 {
		v.Seconds = new(number(e.Seconds))
	}
	if e.Percent != nil {
		v.Percent = new(number(*e.Percent))
	}
	if e.Volts != nil {
		v.Volts = new(number(*e.Volts))
	}
	return v
}

// frame writes [milliseconds, percent, percent, …].
func frame(b []byte, f monitor.Frame) []byte {
	b = strconv.AppendInt(append(b, '['), f.Time.UnixMilli(), 10)
	for _, v := range f.Values {
		b = number(v).append(append(b, ','), 2)
	}
	return append(b, ']')
}

// frames writes a list of them.
func frames(b []byte, all []monitor.Frame) []byte {
	b = append(b, '[')
	for i, f := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = frame(b, f)
	}
	return append(b, ']')
}

// encode writes v, which is made so that it can be written.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("page: " + err.Error())
	}
	return b
}

// part is a piece of the picture that is sent when it differs from what was sent before.
type part struct {
	id  string
	raw json.RawMessage
}

func samePart(a, b part) bool { return a.id == b.id && string(a.raw) == string(b.raw) }

// picture is a Snapshot in pieces. It is not changed once it is made.
type picture struct {
	at                       time.Time // of the clock here, not of the snapshot
	head, live, levels       json.RawMessage
	groups, outputs, brokers json.RawMessage
	zones, events            []part
}

// draw makes a picture; events that the one before has already are taken from there.
func draw(s monitor.Snapshot, at time.Time, before *picture) *picture {
	p := &picture{
		at: at, head: encode(viewHead(s)), live: encode(viewLive(s)),
		groups: encode(viewGroups(s.Groups)), outputs: encode(viewOutputs(s.Outputs)), brokers: encode(viewBrokers(s.Brokers)),
	}
	levels := make([]*level, 0, len(s.Zones))
	for _, z := range s.Zones {
		levels = append(levels, viewLevel(z))
		p.zones = append(p.zones, part{z.ID, encode(viewZone(z))})
	}
	p.levels = encode(levels)

	var known []part
	if before != nil {
		known = before.events
	}
	for _, e := range s.Events {
		if e.ID != "" && len(known) > 0 && known[0].id == e.ID {
			rest := known[:min(len(known), len(s.Events)-len(p.events))]
			p.events = slices.Concat(p.events, rest)
			break
		}
		p.events = append(p.events, part{e.ID, encode(viewEvent(e))})
	}
	return p
}
