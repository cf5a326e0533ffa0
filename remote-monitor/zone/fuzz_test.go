package zone_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// FuzzPanel gives a panel whatever can be made of bytes: readings, commands, restarts and clocks that are set.
func FuzzPanel(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17})
	f.Fuzz(func(t *testing.T, in []byte) {
		next := func() int {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return int(b)
		}
		signals := []zone.Signal{zone.Loop, zone.Analog, zone.Contact, zone.Edges}
		groups := []string{"", "g", "h", "nowhere"}
		var c zone.Config
		for _, name := range []string{"a", "b", "c", "key"} {
			n := next()
			z := zone.Settings{Name: name, Signal: signals[n%4], Group: groups[n/4%4], EntryDelay: n&16 != 0, Bipolar: n&32 != 0}
			if n&64 != 0 {
				z.Profile, z.Normal = zone.Legacy, 29
			}
			n = next()
			z.Sensitivity = []zone.Sensitivity{zone.Low, zone.Medium, zone.High}[n%3]
			z.Policy = []zone.Policy{zone.Single, zone.Prefer, zone.Require}[n/4%3]
			z.Stuck, z.SilentAfter = time.Duration(n&3)*time.Minute, time.Duration(n&12)*time.Hour
			c.Zones = append(c.Zones, z)
		}
		c.Groups = []zone.Group{{Name: "g", Input: "key"}, {Name: "h", Armed: true, Schedule: []zone.Span{{From: time.Hour, To: 2 * time.Hour}}}}
		p, err := zone.New(c, start)
		if err != nil {
			t.Fatal(err)
		}
		now := start
		var last time.Time
		told := map[string]zone.State{}
		tell := func(events []zone.Event) {
			for _, e := range events {
				if e.Time.Before(last) {
					t.Fatalf("%s at %v comes after an event of %v", e.Kind, e.Time, last)
				}
				last = e.Time
				if e.From != "" {
					told[e.Zone] = e.State
				}
				if e.Kind == zone.Restore && e.From == e.State {
					t.Fatalf("%s is restored from %s to the same", e.Zone, e.From)
				}
			}
		}
		volts := []float64{idle, moved, open, gap, 0, -1, 6, math.NaN(), math.Inf(1), idle, moved}
		for range 2000 {
			if len(in) == 0 {
				break
			}
			now = now.Add([]time.Duration{scanned, scanned, scanned, time.Second, time.Minute, time.Hour, -time.Second, 0}[next()%8])
			switch n := next(); n % 16 {
			case 0:
				tell(p.Arm(now, groups[n/16%4], "x", n&64 != 0))
			case 1:
				tell(p.Disarm(now, groups[n/16%4], "x"))
			case 2:
				tell(p.WalkTest(now, now.Add(time.Duration(n)*time.Second-time.Minute)))
			case 3:
				b, err := json.Marshal(p.Memory())
				if err != nil {
					t.Fatal(err)
				}
				var m zone.Memory
				if err := json.Unmarshal(b, &m); err != nil {
					t.Fatal(err)
				}
				if p, err = zone.New(c, now); err != nil {
					t.Fatal(err)
				}
				clear(told)
				last = time.Time{}
				tell(p.Resume(m, now))
			case 4:
				by := time.Duration(n-128) * time.Hour
				now, last = now.Add(by), time.Time{}
				tell(p.ClockSet(now, by))
			case 5:
				tell(p.Advance(now))
			default:
				s := zone.Scan{Time: now, Supply: []float64{0, 5, 5, 4.5, 1, math.NaN(), -1, 5}[n/16%8]}
				for range next() % 5 {
					k := next()
					r := zone.Reading{Zone: k%6 - 1, Volts: volts[k/6%len(volts)], Active: k&1 != 0}
					if k > 250 {
						r.Unknown = "unread"
					}
					s.Readings = append(s.Readings, r)
				}
				tell(p.Feed(s))
			}
			for _, z := range p.Zones(now) {
				if was, ok := told[z.Name]; ok && was != z.State {
					t.Fatalf("%s is %s, and it was told that it is %s", z.Name, z.State, was)
				}
			}
			p.Groups(now)
		}
		tell(p.Advance(now.Add(1000 * time.Hour)))
	})
}
