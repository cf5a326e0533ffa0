package recording

import (
	"time"
)

// Years that a time may be in: what is outside is a mistake, and differences of times inside fit a Duration.
const firstYear, lastYear = 1970, 2199

// clock reads times. It remembers the last date, which is nearly always the next one too.
type clock struct {
	date     [10]byte
	midnight int64 // Unix time of date; 0 with an empty date if there is none
}

// howTime is how a time is to be written.
const howTime = "write it as 2025-01-31T18:04:05.250Z"

// parse reads an ISO 8601 time: date, T or a space, HH:MM, maybe :SS and decimals, maybe Z or an offset.
func (c *clock) parse(b []byte) (time.Time, bool) {
	if len(b) < len("2025-01-31T18:04") || (b[10] != 'T' && b[10] != 't' && b[10] != ' ') {
		return time.Time{}, false
	}
	if [10]byte(b[:10]) != c.date {
		y, ok1 := digits(b[0:4])
		m, ok2 := digits(b[5:7])
		d, ok3 := digits(b[8:10])
		if !ok1 || !ok2 || !ok3 || b[4] != '-' || b[7] != '-' || y < firstYear || y > lastYear {
			return time.Time{}, false
		}
		t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
		if t.Month() != time.Month(m) || t.Day() != d {
			return time.Time{}, false
		}
		c.date, c.midnight = [10]byte(b[:10]), t.Unix()
	}
	hour, ok1 := digits(b[11:13])
	minute, ok2 := digits(b[14:16])
	if !ok1 || !ok2 || b[13] != ':' || hour > 23 || minute > 59 {
		return time.Time{}, false
	}
	seconds, nanos := hour*3600+minute*60, 0
	b = b[16:]
	if len(b) >= 3 && b[0] == ':' {
		s, ok := digits(b[1:3])
		if !ok || s > 59 {
			return time.Time{}, false
		}
		seconds += s
		b = b[3:]
		if len(b) > 0 && b[0] == '.' {
			n := 1
			for scale := 100_000_000; n < len(b) && b[n] >= '0' && b[n] <= '9'; n++ {
				nanos += int(b[n]-'0') * scale
				scale /= 10
			}
			if n == 1 || n > 10 {
				return time.Time{}, false
			}
			b = b[n:]
		}
	}
	offset, ok := parseOffset(b)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(c.midnight+int64(seconds-offset), int64(nanos)).UTC(), true
}

// parseOffset reads nothing, Z, ±HH, ±HHMM or ±HH:MM as seconds east of UTC.
func parseOffset(b []byte) (seconds int, ok bool) {
	if len(b) == 0 || len(b) == 1 && (b[0] == 'Z' || b[0] == 'z') {
		return 0, true
	}
	if b[0] != '+' && b[0] != '-' || len(b) < 3 {
		return 0, false
	}
	hour, ok := digits(b[1:3])
	minute, rest := 0, b[3:]
	if len(rest) > 0 && rest[0] == ':' {
		rest = rest[1:]
		ok = ok && len(rest) == 2
	}
	if len(rest) > 0 {
		m, good := digits(rest)
		minute, ok = m, ok && good && len(rest) == 2
	}
	if !ok || hour > 23 || minute > 59 {
		return 0, false
	}
	seconds = hour*3600 + minute*60
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// digits reads a number of at most four digits.
func digits(b []byte) (n int, ok bool) {
	if len(b) == 0 || len(b) > 4 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
