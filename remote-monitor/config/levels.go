package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// tolerance is the original's: how far a value may be from a level and still count as that level, in points.
const tolerance = 10

// bandNames are the levels of a loop in the order in which they usually lie.
var bandNames = []string{"short", "normal", "alarm", "open"}

// Least distance of two points, and half of the fault between their bands, in points: those of zone.Resistors.
const (
	leastDistance = 8
	halfGap       = 3
)

// nowhere is a band that no level is in.
var nowhere = zone.Band{Low: 1, High: 0}

// aroundPoints makes bands of one level each, in any order. They end three points before the middle between two levels.
// Outwards, short and open go on for ever; normal and alarm are as wide as inwards, so that a wire that is cut or
// shorted is a fault where nobody said that it is a tamper.
func aroundPoints(said map[string]zone.Band) (zone.Levels, error) {
	type point struct {
		name string
		at   float64
	}
	var points []point
	for _, name := range bandNames {
		if b, ok := said[name]; ok {
			points = append(points, point{name, b.Low})
		}
	}
	slices.SortStableFunc(points, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	bands := map[string]zone.Band{}
	for i, p := range points {
		below, above := math.Inf(-1), math.Inf(1)
		if i > 0 {
			if p.at-points[i-1].at < leastDistance {
				return zone.Levels{}, fmt.Errorf("%s, %s, and %s, %s, are too close to be told apart: they need %d points between them",
					points[i-1].name, percent(points[i-1].at), p.name, percent(p.at), leastDistance)
			}
			below = (points[i-1].at+p.at)/2 + halfGap
		}
		if i < len(points)-1 {
			above = (p.at+points[i+1].at)/2 - halfGap
		}
		if p.name == "normal" || p.name == "alarm" {
			if i == 0 {
				below = p.at - (above - p.at)
			}
			if i == len(points)-1 {
				above = p.at + (p.at - below)
			}
		}
		bands[p.name] = zone.Band{Low: below, High: above}
	}
	return named(bands), nil
}

// asBands takes bands as they are. The alarm may be under the others: then it is everything else.
func asBands(said map[string]zone.Band) (zone.Levels, error) {
	for i, a := range bandNames {
		for _, b := range bandNames[i+1:] {
			x, one := said[a]
			y, two := said[b]
			if one && two && a != "alarm" && b != "alarm" && x.Low <= y.High && y.Low <= x.High {
				return zone.Levels{}, fmt.Errorf("the bands of %s and %s overlap", a, b)
			}
		}
	}
	return named(said), nil
}

func named(bands map[string]zone.Band) zone.Levels {
	band := func(name string) zone.Band {
		if b, ok := bands[name]; ok {
			return b
		}
		return nowhere
	}
	return zone.Levels{Short: band("short"), Normal: band("normal"), Alarm: band("alarm"), Open: band("open")}
}
