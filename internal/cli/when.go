package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

// units are for people: 90 minutes are one hour, because the number says how long ago, not when.
var units = [...]struct {
	d           time.Duration
	letter      string
	one, plural string
}{
	{24 * time.Hour, "d", "day", "days"},
	{time.Hour, "h", "h", "h"},
	{time.Minute, "m", "min", "min"},
	{time.Second, "s", "s", "s"},
}

// ago says how long before now t was, in words.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "never"
	case d < -5*time.Second:
		return "in " + span(-d)
	case d < 5*time.Second:
		return "just now"
	case d > 60*24*time.Hour:
		return t.Local().Format(time.DateOnly)
	}
	return span(d) + " ago"
}

func span(d time.Duration) string {
	for _, u := range units {
		if n := int64(d / u.d); n == 1 {
			return "1 " + u.one
		} else if n > 0 {
			return fmt.Sprintf("%d %s", n, u.plural)
		}
	}
	return "0 s"
}

// short is span in as few letters as can be: 3h.
func short(d time.Duration) string {
	for _, u := range units {
		if n := int64(d / u.d); n > 0 {
			return strconv.FormatInt(n, 10) + u.letter
		}
	}
	return "0s"
}

// took is how long something lasted, to the second.
func took(from, to *time.Time) string {
	if from == nil || to == nil {
		return ""
	}
	return to.Sub(*from).Round(time.Second).String()
}

// parseSpan reads a length of time as people write it: 90s, 15m, 2h, 1h30m, 7d.
func parseSpan(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, found := strings.CutSuffix(s, "d"); found {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 {
		return 0, fault.Newf(fault.Invalid, "%q is not a length of time", s).WithHint("write it as 90s, 15m, 2h or 7d")
	}
	return d, nil
}

// parseSince reads a moment: a length of time before now, or a date with or without a time of day (local, unless
// it names a zone).
func parseSince(now time.Time, s string) (time.Time, error) {
	if d, err := parseSpan(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.Newf(fault.Invalid, "%q is not a time", s).
		WithHint("write how long ago (15m, 2h, 7d) or when (2026-01-31, 2026-01-31 18:00)")
}
