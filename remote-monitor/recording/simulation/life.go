package simulation

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// How bodies are seen; the reasons are in the comment of the package.
const (
	body      = 34.0 // °C
	contrast  = 12.0 // K that give gain thresholds
	gain      = 4.0
	scatter   = 0.4 // σ of the logarithm
	partly    = 0.5 // of a room that a detector sees a part of
	petSmall  = 0.25
	faintest  = 0.1 // thresholds; less is noise
	nightFrom = 23 * time.Hour
	nightTo   = 7 * time.Hour
)

// leave draws when the home is empty.
func (t *Trace) leave() {
	rng := t.rng("absences")
	back := nightTo
	for d := time.Duration(0); d < t.end; d += day {
		weekday := t.start.Add(d).Weekday()
		for _, a := range t.home.Absences {
			happens := rng.Float64() < a.Share
			from := d + a.At + time.Duration(rng.NormFloat64()*float64(a.Spread))
			to := from + max(around(rng, a.For, a.Vary), 5*time.Minute)
			if !happens || a.Weekdays && (weekday == time.Saturday || weekday == time.Sunday) {
				continue
			}
			from, to = from.Truncate(time.Millisecond), to.Truncate(time.Millisecond)
			if from < back+20*time.Minute || to > t.end-10*time.Minute {
				continue
			}
			t.gone = append(t.gone, interval{from, to})
			back = to
		}
	}
}

// people has them live at home between their absences.
func (t *Trace) people() {
	door := t.rng("door")
	from, came := time.Duration(0), false
	for i := 0; i <= len(t.gone); i++ {
		until := t.end
		if i < len(t.gone) {
			until = t.gone[i].from
		}
		if came {
			t.open = append(t.open, interval{from + between(door, 20*time.Millisecond, 80*time.Millisecond), from + between(door, 2*time.Second, 6*time.Second)})
		}
		for p := range t.home.People {
			rng := t.rng("person", i, p)
			if p > 0 && rng.Float64() < 0.5 {
				continue // is elsewhere this time
			}
			enter := from
			if came {
				// The first is through the door within a second, the others follow.
				enter += around(rng, 450*time.Millisecond, 0.5) + time.Duration(p)*around(rng, 3*time.Second, 0.5)
			}
			t.live(rng, enter, until)
		}
		if i < len(t.gone) {
			t.open = append(t.open, interval{until - between(door, 3*time.Second, 6*time.Second), until})
			from, came = t.gone[i].to, true
		}
	}
}

// live is one person at home: coming in, going about, leaving.
func (t *Trace) live(rng *rand.Rand, from, until time.Duration) {
	// Some take their coat off in the first room, some go straight on.
	at, room := from, 0
	at = t.walk(rng, 1, room, at, until)
	if rng.Float64() < 0.5 {
		at = t.stay(rng, room, at, min(at+between(rng, 5*time.Second, 30*time.Second), until), 4*time.Second)
	}
	// The way out takes a minute.
	out := until - time.Minute
	for at < out {
		clock := at % day
		night := clock >= nightFrom || clock < nightTo
		next := t.choose(rng, room, night)
		for _, r := range t.home.path(room, next) {
			at, room = t.walk(rng, 1, r, at, out), r
		}
		length := max(around(rng, 20*time.Minute, 0.8), 30*time.Second)
		still := 12 * time.Second
		switch {
		case night && t.home.Rooms[room].Bed:
			length, still = max(around(rng, 3*time.Hour, 0.4), 10*time.Minute), 15*time.Minute
			if clock < nightTo {
				length = min(length, nightTo+between(rng, 0, time.Hour)-clock)
			}
		case rng.Float64() < 0.5:
			still = time.Minute
		}
		at = t.stay(rng, room, at, min(at+length, out), still)
	}
	for _, r := range t.home.path(room, 0) {
		at, room = t.walk(rng, 1, r, at, until), r
	}
	t.stay(rng, 0, at, until, 5*time.Second)
}

// choose is where somebody goes next.
func (t *Trace) choose(rng *rand.Rand, room int, night bool) int {
	sum := 0.0
	weight := func(i int) float64 {
		r := t.home.Rooms[i]
		switch {
		case night && r.Bed && i != room:
			return 20 * max(r.Stay, 1)
		case i == room:
			return 0
		}
		return r.Stay
	}
	for i := range t.home.Rooms {
		sum += weight(i)
	}
	at := rng.Float64() * sum
	for i := range t.home.Rooms {
		if at -= weight(i); at < 0 {
			return i
		}
	}
	return room // there is nowhere else
}

// walk goes through a room and returns when it is through.
func (t *Trace) walk(rng *rand.Rand, size float64, room int, from, until time.Duration) time.Duration {
	to := min(from+between(rng, 1500*time.Millisecond, 4500*time.Millisecond), until)
	t.move(rng, size, room, from, to)
	return max(from, to)
}

// stay is being in a room: bouts of movement, and stillness of this median between.
func (t *Trace) stay(rng *rand.Rand, room int, from, until, still time.Duration) time.Duration {
	for at := from; at < until; {
		bout := min(at+time.Duration(rng.ExpFloat64()*float64(3*time.Second)), until)
		t.move(rng, 1, room, at, bout)
		at = bout + around(rng, still, 1)
	}
	return max(from, until)
}

// move is a body that moves in a room, crossing the edge of a lens zone about twice a second.
func (t *Trace) move(rng *rand.Rand, size float64, room int, from, to time.Duration) {
	name := t.home.Rooms[room].Name
	for at := from; at < to; at += 250*time.Millisecond + time.Duration(rng.ExpFloat64()*float64(250*time.Millisecond)) {
		warmth := math.Abs(body-t.temperature(at)) / contrast
		for i, z := range t.home.Zones {
			sees := 1.0
			switch {
			case z.Door || z.Room != name && z.Also != name:
				continue
			case z.Room != name:
				sees = partly
			}
			if size < 1 {
				sees *= size
				if z.Small > 0 {
					sees *= z.Small / petSmall
				}
			}
			amp := gain * warmth * sees * math.Exp(scatter*rng.NormFloat64())
			width := between(rng, 400*time.Millisecond, 1500*time.Millisecond)
			if amp >= faintest {
				t.passed[i] = append(t.passed[i], stimulus{at: at, width: width, amp: amp})
			}
		}
	}
}

// pets walk about, whoever is at home.
func (t *Trace) pets() {
	for i, p := range t.home.Pets {
		rng := t.rng("pet", i)
		room := rng.IntN(len(t.home.Rooms))
		for at := range poisson(rng, day, p.Walks, t.end) {
			for range 1 + rng.IntN(max(p.Through, 1)) {
				at = t.walk(rng, petSmall, room, at, t.end)
				if next := t.home.next(room); len(next) > 0 {
					room = next[rng.IntN(len(next))]
				}
				at += around(rng, p.Asleep, 1)
			}
		}
	}
}

// nuisance moves one detector.
func (t *Trace) nuisance(n Nuisance, rng *rand.Rand) {
	zone := slices.IndexFunc(t.home.Zones, func(z Zone) bool { return z.Name == n.Zone })
	for d := 0; time.Duration(d)*day < t.end; d++ {
		comes := rng.Float64() < n.Share
		if !comes || n.Hot && !t.hot[d] {
			continue
		}
		midnight := time.Duration(d) * day
		if n.Spells == 0 {
			t.spell(n, rng, zone, interval{midnight + n.From, midnight + n.To})
			continue
		}
		for at := range poisson(rng, n.To-n.From, n.Spells, n.To-n.From) {
			from := midnight + n.From + at
			t.spell(n, rng, zone, interval{from, from + around(rng, n.Lasts, 0.5)})
		}
	}
}

// Gusts and clouds: how much stronger and weaker than the mean, and for how long.
const (
	gust    = 1.7
	lull    = 0.3
	gustFor = 4 * time.Minute
)

// spell is the pulses of one.
func (t *Trace) spell(n Nuisance, rng *rand.Rand, zone int, s interval) {
	strong, turn := rng.IntN(2) == 0, time.Duration(0)
	for at := range poisson(rng, n.Every, gust, s.to-s.from) {
		for at >= turn {
			turn += time.Duration(rng.ExpFloat64() * float64(gustFor))
			strong = !strong
		}
		share := math.Sin(math.Pi * float64(at) / float64(s.to-s.from))
		if n.Sudden {
			share = 1
		}
		switch {
		case !n.Gusts:
			share /= gust
		case !strong:
			share *= lull / gust
		}
		if rng.Float64() >= share || s.from+at >= t.end {
			continue
		}
		width := min(around(rng, n.Width, n.Vary), 30*time.Minute)
		t.passed[zone] = append(t.passed[zone], stimulus{at: s.from + at, width: width, amp: 1 + 0.5*rng.ExpFloat64(), slow: true})
	}
}

// next is where one can go from a room; a passage works both ways.
func (h Home) next(room int) (rooms []int) {
	for i, r := range h.Rooms {
		if i != room && (slices.Contains(h.Rooms[room].Next, r.Name) || slices.Contains(r.Next, h.Rooms[room].Name)) {
			rooms = append(rooms, i)
		}
	}
	return rooms
}

// path is the shortest way: the rooms after a until b; nil if there is none.
func (h Home) path(a, b int) []int {
	came := map[int]int{a: a}
	for reach := []int{a}; len(reach) > 0; reach = reach[1:] {
		for _, next := range h.next(reach[0]) {
			if _, ok := came[next]; !ok {
				came[next] = reach[0]
				reach = append(reach, next)
			}
		}
	}
	if _, ok := came[b]; !ok {
		return nil
	}
	way := []int{}
	for ; b != a; b = came[b] {
		way = append(way, b)
	}
	slices.Reverse(way)
	return way
}
