package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// closest is the candidate with the fewest changed letters, "" if none is close.
func closest(word string, candidates []string) string {
	if len(word) > 100 {
		return ""
	}
	best, most := "", 1+len(word)/4
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d <= most && d < max(len(word), len(c)) {
			best, most = c, d-1
		}
	}
	return best
}

// distance counts inserted, deleted and replaced letters (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// instead says what of the candidates may have been meant, or else what there is.
func instead(word string, candidates []string) string {
	switch c := closest(word, candidates); {
	case c != "":
		return "did you mean " + c + "?"
	case len(candidates) == 0:
		return "there is none"
	default:
		return "there are: " + strings.Join(candidates, ", ")
	}
}

// units of time, in the words people use.
var units = map[string]time.Duration{
	"us": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

// longest is more than anything here may take, and less than a Duration can hold.
const longest = 10 * 366 * 24 * time.Hour

// parseDuration reads 50ms, 10 s, 1h30m or a number of seconds. What is negative, not a number or beyond all bounds
// is -1 and fails in the check of the bounds.
func parseDuration(s string) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if f, err := strconv.ParseFloat(s, 64); err == nil || math.IsInf(f, 0) {
		return seconds(f), true
	}
	var sum float64
	for rest := s; rest != ""; {
		n := 0
		for n < len(rest) && (rest[n] >= '0' && rest[n] <= '9' || rest[n] == '.') {
			n++
		}
		f, err := strconv.ParseFloat(rest[:n], 64)
		if err != nil {
			return 0, false
		}
		rest = strings.TrimLeft(rest[n:], " ")
		n = strings.IndexAny(rest, "0123456789. ")
		if n < 0 {
			n = len(rest)
		}
		unit, ok := units[rest[:n]]
		if !ok {
			return 0, false
		}
		sum += f * unit.Seconds()
		rest = strings.TrimLeft(rest[n:], " ")
		if rest == "" {
			return seconds(sum), true
		}
	}
	return 0, false
}

func seconds(f float64) time.Duration {
	if !(f >= 0 && f <= longest.Seconds()) {
		return -1
	}
	return time.Duration(math.Round(f * float64(time.Second)))
}

// span writes a time without the zeros of time.Duration: 1h rather than 1h0m0s.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if h, ok := strings.CutSuffix(s, "h"); ok && !strings.ContainsAny(h, "ms") {
		if n, err := strconv.Atoi(h); err == nil && n >= 48 && n%24 == 0 {
			return strconv.Itoa(n/24) + "d"
		}
	}
	return s
}

// percent writes a share without needless digits.
func percent(f float64) string { return number(f) + " %" }

func number(f float64) string { return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64) }

// isID tells whether s may be part of a topic: letters, digits, _ and -.
func isID(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
}

// ID is a name as topics and ids want it, "device" if nothing of it can be kept.
func ID(name string) string { return slug(name, "device") }

// slug makes an id of a name: Küche, upper floor becomes kueche_upper_floor.
func slug(name, otherwise string) string {
	if isID(name) {
		return name
	}
	name = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "å", "a", "á", "a", "à", "a", "â", "a", "ã", "a", "æ", "ae", "ç", "c",
		"é", "e", "è", "e", "ê", "e", "ë", "e", "í", "i", "ñ", "n", "ó", "o", "ô", "o", "ø", "o", "ú", "u").Replace(strings.ToLower(name))
	words := strings.FieldsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	})
	s := strings.Trim(strings.Join(words, "_"), "-_")
	if len(s) > 60 {
		s = s[:60]
	}
	if s == "" {
		return otherwise
	}
	return s
}

// list joins words as people do: a, b and c.
func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return "none"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// quoted shows a value that a person wrote, in one line and not too long.
func quoted(s string) string {
	if utf8.RuneCountInString(s) > 60 {
		s = string([]rune(s)[:60]) + "…"
	}
	return strconv.Quote(s)
}

// place is where something was said: a position in a file, or a name such as that of a variable.
type place struct {
	source       string
	line, column int
}

func (p place) String() string {
	switch {
	case p.line == 0:
		return p.source
	case p.column == 0:
		return fmt.Sprintf("%s:%d", p.source, p.line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.source, p.line, p.column)
	}
}

// problems collects what is wrong instead of stopping at the first.
type problems struct {
	found []problem
}

type problem struct {
	at   place
	text string
}

// wrong records a problem. at is where it is mended.
func (p *problems) wrong(at place, format string, args ...any) {
	if len(p.found) >= mostKept {
		return
	}
	p.found = append(p.found, problem{at, fmt.Sprintf(format, args...)})
}

// Most problems that are told, and that are kept to be sorted: after a file has lost its way more are of no use.
const (
	mostProblems = 50
	mostKept     = 500
)

// err is all problems, one a line, those of a file in the order of its lines; nil if there is none.
func (p *problems) err() error {
	if len(p.found) == 0 {
		return nil
	}
	var sources []string
	for _, f := range p.found {
		if !slices.Contains(sources, f.at.source) {
			sources = append(sources, f.at.source)
		}
	}
	slices.SortStableFunc(p.found, func(a, b problem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(sources, a.at.source), slices.Index(sources, b.at.source)),
			cmp.Compare(a.at.line, b.at.line),
			cmp.Compare(a.at.column, b.at.column),
		)
	})
	var lines []string
	for _, f := range p.found {
		line := f.text
		if f.at != (place{}) {
			line = f.at.String() + ": " + line
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if n := len(lines); n > mostProblems {
		lines = append(lines[:mostProblems], "and more")
	}
	return Error(lines)
}

// Error is everything that is wrong with a configuration, a sentence each.
type Error []string

func (e Error) Error() string { return strings.Join(e, "\n") }
