package zone

import (
	"fmt"
	"math"
)

// Resistors are the parts of a supervised loop: a pull-up to the supply, and from the terminal to ground an
// end-of-line resistor in series with one that the detector's contact bridges while nothing moves. Input is the
// terminal's own resistance to ground. All in ohms; the zero values mean the numbers given.
type Resistors struct {
	PullUp    float64 // 4700
	EndOfLine float64 // 2200
	Alarm     float64 // 4700
	Input     float64 // 16800, as an ADC Pi has it; infinite: none
}

// Band is a range of levels, percent of the supply, both ends included. High below Low is no band.
type Band struct{ Low, High float64 }

// Levels are the bands of a loop, percent of the supply. Where bands overlap the first of normal, open, short and
// alarm has it; a level in none is a fault.
type Levels struct {
	Short, Normal, Alarm, Open Band
	Hysteresis                 float64 // points a level must be beyond the end of a band before it has left it; 2
}

// Half the width of the fault between two bands that are derived from resistors, in points. A level that stays there
// is neither: a joint corrodes, or a resistor is not what was said.
const halfGap = 3

// Least distance of two levels for which bands can be derived: twice what a supply that is five percent off makes of
// the higher one would leave nothing of the band.
const leastDistance = 8

// nowhere is a band that no level is in.
var nowhere = Band{Low: 1, High: 0}

// Points are the levels of the four states of a loop, percent of the supply.
type Points struct{ Short, Normal, Alarm, Open float64 }

// Points are the levels that the resistors make.
func (r Resistors) Points() Points {
	r = r.filled()
	level := func(loop float64) float64 {
		if loop == 0 {
			return 0
		}
		down := 1 / (1/loop + 1/r.Input)
		return 100 * down / (r.PullUp + down)
	}
	return Points{Short: 0, Normal: level(r.EndOfLine), Alarm: level(r.EndOfLine + r.Alarm), Open: level(math.Inf(1))}
}

// Levels derives the bands: they end three points before the middle between two levels. It fails when two levels are
// too close to be told apart.
func (r Resistors) Levels() (Levels, error) {
	f := r.filled()
	for _, part := range []struct {
		name string
		ohms float64
	}{{"pull-up", f.PullUp}, {"end-of-line resistor", f.EndOfLine}, {"alarm resistor", f.Alarm}, {"input resistance", f.Input}} {
		if !(part.ohms > 0) {
			return Levels{}, fmt.Errorf("the %s cannot be %v ohms", part.name, part.ohms)
		}
	}
	p := r.Points()
	if p.Normal-p.Short < leastDistance || p.Alarm-p.Normal < leastDistance || p.Open-p.Alarm < leastDistance {
		return Levels{}, fmt.Errorf("the levels %.0f, %.0f, %.0f and %.0f %% are too close to be told apart: they need %d points between them; "+
			"pull-up 4700, end of line 2200 and alarm 4700 ohms work well", p.Short, p.Normal, p.Alarm, p.Open, leastDistance)
	}
	return p.Levels(), nil
}

// Levels derives the bands of measured levels, which have to be in rising order.
func (p Points) Levels() Levels {
	a, b, c := (p.Short+p.Normal)/2, (p.Normal+p.Alarm)/2, (p.Alarm+p.Open)/2
	return Levels{
		Short: Band{math.Inf(-1), a - halfGap}, Normal: Band{a + halfGap, b - halfGap},
		Alarm: Band{b + halfGap, c - halfGap}, Open: Band{c + halfGap, math.Inf(1)},
	}
}

// tolerance is the original's: how far a value may be from a level and still count as that level, in points.
const tolerance = 10

// Around is what the original's two numbers say of a loop: near normal is normal, near tamper is a tamper, and
// everything else is an alarm. tamper is nil if it was not given.
func Around(normal float64, tamper *float64) Levels {
	l := Levels{
		Short: nowhere, Normal: Band{normal - tolerance, normal + tolerance},
		Alarm: Band{math.Inf(-1), math.Inf(1)}, Open: nowhere,
	}
	if tamper != nil {
		l.Open = Band{*tamper - tolerance, *tamper + tolerance}
	}
	return l
}

func (r Resistors) filled() Resistors {
	fill := func(v *float64, otherwise float64) {
		if *v == 0 {
			*v = otherwise
		}
	}
	fill(&r.PullUp, 4700)
	fill(&r.EndOfLine, 2200)
	fill(&r.Alarm, 4700)
	fill(&r.Input, 16800)
	return r
}

// place is which band a level is in.
type place int

const (
	unseen place = iota
	inNormal
	inAlarm
	inOpen
	inShort
	inGap
)

func (b Band) has(v float64) bool { return v >= b.Low && v <= b.High }

func (l Levels) place(v float64) place {
	switch {
	case l.Normal.has(v):
		return inNormal
	case l.Open.has(v):
		return inOpen
	case l.Short.has(v):
		return inShort
	case l.Alarm.has(v):
		return inAlarm
	}
	return inGap
}

// next is the band a level is in, when it was in the band last: it has left that only when it is beyond its end by
// the hysteresis.
func (l Levels) next(last place, v float64) place {
	now := l.place(v)
	if now == last || l.place(v-l.Hysteresis) == last || l.place(v+l.Hysteresis) == last {
		return last
	}
	return now
}

// check refuses bands that make no sense.
func (l Levels) check() error {
	for _, b := range []Band{l.Short, l.Normal, l.Alarm, l.Open} {
		if math.IsNaN(b.Low) || math.IsNaN(b.High) {
			return fmt.Errorf("a band from %v to %v %% makes no sense", b.Low, b.High)
		}
	}
	if l.Normal.High < l.Normal.Low {
		return fmt.Errorf("there is no band for normal")
	}
	if l.Alarm.High < l.Alarm.Low {
		return fmt.Errorf("there is no band for alarm")
	}
	return nil
}

// thresholds are the bands' ends inside the picture, lowest first.
func (l Levels) thresholds() []Threshold {
	var t []Threshold
	for _, b := range []struct {
		name string
		Band
	}{{"short", l.Short}, {"normal", l.Normal}, {"alarm", l.Alarm}, {"open", l.Open}} {
		if b.Low > 0 && b.Low < 100 && b.Low <= b.High {
			t = append(t, Threshold{b.name, b.Low})
		}
		if b.High > 0 && b.High < 100 && b.Low <= b.High {
			t = append(t, Threshold{b.name, b.High})
		}
	}
	return t
}
