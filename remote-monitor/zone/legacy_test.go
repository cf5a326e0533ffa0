package zone_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

var start = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func at(n int) time.Time { return start.Add(time.Duration(n) * 50 * time.Millisecond) }

func samples(values ...float64) []zone.Sample {
	var s []zone.Sample
	for i, v := range values {
		s = append(s, zone.Sample{Time: at(i), Value: v})
	}
	return s
}

func kinds(events []zone.Event) []zone.Kind {
	k := []zone.Kind{}
	for _, e := range events {
		k = append(k, e.Kind)
	}
	return k
}

func hall() *zone.Legacy {
	tamper := 78
	return &zone.Legacy{Normal: 29, Tamper: &tamper, Label: "tamper"}
}

func TestValuesBecomeEvents(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   []zone.Kind
		state  zone.State
	}{
		{"nothing was read", nil, nil, zone.Normal},
		{"quiet", []float64{29, 20, 38.9, 19, 39}, nil, zone.Normal},
		{"one sample is enough for an alarm", []float64{29, 39.1, 29}, []zone.Kind{zone.Alarm, zone.Restore}, zone.Normal},
		{"below normal is an alarm too", []float64{18.9}, []zone.Kind{zone.Alarm}, zone.InAlarm},
		{"a level is told once", []float64{51, 55, 45, 61, 41}, []zone.Kind{zone.Alarm}, zone.InAlarm},
		{"a ramp is told again every ten points", []float64{40, 51, 62}, []zone.Kind{zone.Alarm, zone.Alarm, zone.Alarm}, zone.InAlarm},
		{"tamper", []float64{78, 88, 68}, []zone.Kind{zone.Tamper}, zone.Tampered},
		{"from alarm to tamper and back, close together", []float64{67, 69, 67}, []zone.Kind{zone.Alarm, zone.Tamper, zone.Alarm}, zone.InAlarm},
		{"beyond tamper is an alarm", []float64{89}, []zone.Kind{zone.Alarm}, zone.InAlarm},
		{"a tamper ends", []float64{78, 29, 29}, []zone.Kind{zone.Tamper, zone.Restore}, zone.Normal},
	} {
		z := hall()
		if d := cmp.Diff(append([]zone.Kind{}, c.want...), kinds(z.Feed(samples(c.values...)...))); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if got := z.State(); got != c.state {
			t.Errorf("%s: the zone is in %s, want %s", c.name, got, c.state)
		}
	}
}

func TestAnEventSaysWhenWhatAndWhy(t *testing.T) {
	got := hall().Feed(samples(29, 51.5, 78, 29.5)...)
	want := []zone.Event{
		{Time: at(1), Kind: zone.Alarm, Value: 51.5, Reason: "22.5 points from normal, which is 29 %"},
		{Time: at(2), Kind: zone.Tamper, Value: 78, Reason: "tamper: near 78 %"},
		{Time: at(3), Kind: zone.Restore, Value: 29.5, Reason: "back to normal, which is 29 %"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAnInputThatCannotBeReadIsAFaultAfterThreeSeconds(t *testing.T) {
	z := hall()
	bad := func(after time.Duration) zone.Sample { return zone.Sample{Time: start.Add(after), Unknown: "timeout"} }
	good := func(after time.Duration, v float64) zone.Sample { return zone.Sample{Time: start.Add(after), Value: v} }
	got := z.Feed(
		good(0, 51), bad(time.Second), bad(3900*time.Millisecond), // not long enough
		good(3950*time.Millisecond, 51), bad(4*time.Second), bad(7*time.Second), bad(8*time.Second),
	)
	want := []zone.Event{
		{Time: start, Kind: zone.Alarm, Value: 51, Reason: "22.0 points from normal, which is 29 %"},
		{Time: start.Add(7 * time.Second), Kind: zone.Fault, Value: 51, Reason: "timeout"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if z.State() != zone.Unfit {
		t.Errorf("the zone is in %s", z.State())
	}
	// Nobody knows what happened in the meantime: the alarm is told again.
	if d := cmp.Diff([]zone.Kind{zone.Alarm, zone.Restore}, kinds(z.Feed(good(9*time.Second, 51), good(10*time.Second, 29)))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]zone.Kind{zone.Fault, zone.Restore}, kinds(z.Feed(bad(11*time.Second), bad(14*time.Second), good(15*time.Second, 29)))); d != "" {
		t.Error(d)
	}
	nan := func(after time.Duration) zone.Sample {
		return zone.Sample{Time: start.Add(after), Value: math.NaN()}
	}
	if d := cmp.Diff([]zone.Kind{zone.Fault}, kinds(z.Feed(nan(16*time.Second), nan(19*time.Second)))); d != "" {
		t.Error(d)
	}
}

// settings draws a zone that config would accept.
func settings(r *rapid.T) func() *zone.Legacy {
	normal := rapid.IntRange(0, 100).Draw(r, "normal")
	var tamper *int
	if rapid.Bool().Draw(r, "has tamper level") {
		n := rapid.IntRange(0, 100).Filter(func(n int) bool { return n > normal+10 || n < normal-10 }).Draw(r, "tamper")
		tamper = &n
	}
	return func() *zone.Legacy { return &zone.Legacy{Normal: normal, Tamper: tamper, Label: "tamper"} }
}

func values(r *rapid.T) []float64 {
	return rapid.SliceOfN(rapid.OneOf(rapid.Float64Range(0, 100), rapid.Map(rapid.IntRange(0, 100), func(n int) float64 { return float64(n) })), 0, 60).Draw(r, "values")
}

func TestNoEventWhileTheValueStaysNearNormal(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		z := settings(r)()
		near := rapid.SliceOf(rapid.Float64Range(float64(z.Normal-zone.Tolerance), float64(z.Normal+zone.Tolerance))).Draw(r, "values")
		if got := z.Feed(samples(near...)...); len(got) > 0 {
			r.Fatalf("got %v", got)
		}
	})
}

func TestTheSameStreamInAnyChunksGivesTheSameEvents(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		fresh := settings(r)
		stream := samples(values(r)...)
		for i := range stream {
			if rapid.IntRange(0, 3).Draw(r, "readable") == 0 {
				stream[i].Unknown = "timeout"
			}
			stream[i].Time = start.Add(time.Duration(i) * time.Second)
		}
		want := fresh().Feed(stream...)
		z := fresh()
		var got []zone.Event
		for rest := stream; len(rest) > 0; {
			n := rapid.IntRange(0, len(rest)).Draw(r, "chunk")
			got = append(got, z.Feed(rest[:n]...)...)
			rest = rest[n:]
			if n == 0 {
				got = append(got, z.Feed(rest[0])...)
				rest = rest[1:]
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			r.Fatal(d)
		}
	})
}

// The alarms and tampers are those of the original's loop, written down here a second time in its own terms.
func TestAlarmsAndTampersAreTheOriginals(t *testing.T) {
	type history struct {
		value  float64
		detail string
	}
	rapid.Check(t, func(r *rapid.T) {
		z := settings(r)()
		stream := values(r)
		var want []zone.Kind
		device := map[string]history{}
		for _, n := range stream {
			if math.Abs(n-float64(z.Normal)) <= 10 {
				delete(device, "hall")
				continue
			}
			detail := ""
			if z.Tamper != nil && math.Abs(n-float64(*z.Tamper)) <= 10 {
				detail = "tamper"
			}
			if h, ok := device["hall"]; ok && math.Abs(n-h.value) <= 10 && detail == h.detail {
				continue
			}
			device["hall"] = history{n, detail}
			if detail == "" {
				want = append(want, zone.Alarm)
			} else {
				want = append(want, zone.Tamper)
			}
		}
		var got []zone.Kind
		for _, e := range z.Feed(samples(stream...)...) {
			if e.Kind != zone.Restore {
				got = append(got, e.Kind)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			r.Fatal(d)
		}
	})
}

// A restore closes exactly one alarm or tamper, and the state is always that of the last event.
func TestEveryAlarmEndsInAtMostOneRestore(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		z := settings(r)()
		state := zone.Normal
		for _, s := range samples(values(r)...) {
			for _, e := range z.Feed(s) {
				if e.Kind == zone.Restore {
					if state == zone.Normal {
						r.Fatal("a restore of a zone that was normal")
					}
					state = zone.Normal
				} else {
					state = zone.State(e.Kind)
				}
			}
			if z.State() != state {
				r.Fatalf("the zone is in %s, its last event says %s", z.State(), state)
			}
		}
	})
}

// After a restart a zone that is not normal says so with its first sample.
func TestARestartLosesNoAlarmAndNoTamper(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		fresh := settings(r)
		stream := samples(append(values(r), rapid.Float64Range(0, 100).Draw(r, "last"))...)
		before := fresh()
		before.Feed(stream...)
		after := fresh()
		got := after.Feed(stream[len(stream)-1])
		if after.State() != before.State() || (before.State() != zone.Normal) != (len(got) == 1) {
			r.Fatalf("before the restart %s, after it %s with %v", before.State(), after.State(), got)
		}
	})
}
