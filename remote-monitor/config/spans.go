package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// dayNames are the days of the week as they are written, from Sunday like time.Weekday.
var dayNames = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// spans reads a list of times of the week.
func (m *mapping) spans(name string) (all []zone.Span) {
	values, _ := m.scalars(name)
	for _, v := range values {
		s, err := parseSpan(v.text)
		if err != nil {
			m.wrong(v.at, "%s: %s: %v", name, v.shown, err)
			continue
		}
		all = append(all, s)
	}
	return all
}

// parseSpan reads 22:00-06:00, or mon-fri 08:00-17:00, or sat,sun 10:00-24:00.
func parseSpan(s string) (zone.Span, error) {
	var span zone.Span
	fields := strings.Fields(strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(s, ", ", ","), " - ", "-")))
	if len(fields) < 1 || len(fields) > 2 {
		return span, fmt.Errorf("want days and times such as mon-fri 08:00-17:00, or times alone: 22:00-06:00")
	}
	if len(fields) == 2 {
		for part := range strings.SplitSeq(fields[0], ",") {
			from, to, isRange := strings.Cut(part, "-")
			first, err := parseDay(from)
			if err != nil {
				return span, err
			}
			last := first
			if isRange {
				if last, err = parseDay(to); err != nil {
					return span, err
				}
			}
			for d := first; ; d = (d + 1) % 7 {
				span.Days = append(span.Days, d)
				if d == last {
					break
				}
			}
		}
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	if !ok {
		return span, fmt.Errorf("want two times with a - between them, such as 22:00-06:00")
	}
	var err error
	if span.From, err = parseClock(from); err != nil {
		return span, err
	}
	if span.To, err = parseClock(to); err != nil {
		return span, err
	}
	if span.From == span.To {
		return span, fmt.Errorf("it begins when it ends; write 00:00-24:00 for the whole day")
	}
	if span.From == day {
		return span, fmt.Errorf("nothing begins at 24:00; write 00:00 of the next day")
	}
	return span, nil
}

func parseDay(s string) (time.Weekday, error) {
	for i, name := range dayNames {
		if s == name || s == strings.ToLower(time.Weekday(i).String()) {
			return time.Weekday(i), nil
		}
	}
	return 0, fmt.Errorf("%s is no day; the days are mon, tue, wed, thu, fri, sat and sun", quoted(s))
}

// parseClock reads HH:MM, up to 24:00.
func parseClock(s string) (time.Duration, error) {
	hours, minutes, ok := strings.Cut(s, ":")
	h, err1 := strconv.ParseUint(hours, 10, 8)
	m, err2 := strconv.ParseUint(minutes, 10, 8)
	d := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
	if !ok || err1 != nil || err2 != nil || len(minutes) != 2 || m > 59 || d > day {
		return 0, fmt.Errorf("%s is no time of the day; want HH:MM, 00:00 to 24:00", quoted(s))
	}
	return d, nil
}

// showSpan writes a span as parseSpan reads it.
func showSpan(s zone.Span) string {
	clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60) }
	out := clock(s.From) + "-" + clock(s.To)
	if len(s.Days) > 0 && len(s.Days) < 7 {
		var days []string
		for _, d := range s.Days {
			days = append(days, dayNames[d])
		}
		out = strings.Join(days, ",") + " " + out
	}
	return out
}
