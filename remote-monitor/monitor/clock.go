package monitor

import (
	"reflect"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// A wall clock that is further off than this has been set; one that is less far off is followed.
const clockStep = 5 * time.Second

// clock is the time of the zones: the wall's, which schedules need, but never going backwards, which durations need.
// A computer without a battery for its clock starts at some past date and is set when the network is there.
type clock struct {
	zone *time.Location
	told time.Time     // last answer
	mono time.Duration // when that was, by a clock that is never set
}

// now takes both clocks and returns the time, and by how much the wall clock was set if it was: the time may go either
// way then.
func (c *clock) now(wall time.Time, mono time.Duration) (t time.Time, set time.Duration) {
	wall = wall.Round(0).In(c.zone)
	passed := mono - c.mono
	off := wall.Sub(c.told) - passed
	switch {
	case c.told.IsZero():
		t = wall
	case off > clockStep || off < -clockStep:
		t, set = wall, off
	case off < 0:
		// Half the speed until the wall has caught up.
		t = later(wall, c.told.Add(passed/2))
	default:
		t = wall
	}
	c.told, c.mono = t, mono
	return t, set
}

// moved is a memory with all its times later, as after the clock was set: what was a minute ago still was. Which times
// it has is the business of its room.
func moved(m zone.Memory, by time.Duration) zone.Memory {
	v := reflect.ValueOf(&m).Elem()
	move(v, by)
	return m
}

// move does so with a value that can be set.
func move(v reflect.Value, by time.Duration) {
	if t, ok := reflect.TypeAssert[time.Time](v); ok {
		if !t.IsZero() {
			v.Set(reflect.ValueOf(t.Add(by)))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				move(v.Field(i), by)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			move(v.Index(i), by)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			move(v.Elem(), by)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(v.MapIndex(key))
			move(e, by)
			v.SetMapIndex(key, e)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
