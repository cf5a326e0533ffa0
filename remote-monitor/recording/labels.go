package recording

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Truth is what is known of a time.
type Truth string

// The truths.
const (
	Away  Truth = "away"  // nobody is there
	Home  Truth = "home"  // somebody is
	Entry Truth = "entry" // somebody comes in; it starts when they open the door
)

// Label says what was true from Start until End, which is not part of it.
type Label struct {
	Start, End time.Time
	Truth      Truth
}

// maxLabels bounds the memory that labels take.
const maxLabels = 1 << 20

// LoadLabels reads the labels in the file of this name.
func LoadLabels(name string) ([]Label, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open labels: %w", err)
	}
	defer f.Close()
	labels, err := ReadLabels(f)
	if err != nil {
		return nil, fmt.Errorf("read labels %s: %w", name, err)
	}
	return labels, nil
}

// ReadLabels reads labels and returns them in the order of their starts. The end of an entry may be left out.
func ReadLabels(r io.Reader) ([]Label, error) {
	in := bufio.NewReaderSize(r, maxLine)
	var (
		labels []Label
		clock  clock
		number int
	)
	for {
		line, err := readLine(in, &number)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		f, wrong := fields(line)
		if wrong != "" {
			return nil, fmt.Errorf("line %d: %s; write start,end,label", number, wrong)
		}
		if isHeader(f, [3]string{"start", "end", "label"}) {
			continue
		}
		l := Label{Truth: Truth(strings.ToLower(string(f[2])))}
		if l.Truth != Away && l.Truth != Home && l.Truth != Entry {
			return nil, fmt.Errorf("line %d: %q is no label; write away, home or entry", number, f[2])
		}
		var ok bool
		if l.Start, ok = clock.parse(f[0]); !ok {
			return nil, fmt.Errorf("line %d: %q is no time; %s", number, f[0], howTime)
		}
		if l.End = l.Start; len(f[1]) > 0 || l.Truth != Entry {
			if l.End, ok = clock.parse(f[1]); !ok {
				return nil, fmt.Errorf("line %d: %q is no time; %s", number, f[1], howTime)
			}
		}
		if l.End.Before(l.Start) {
			return nil, fmt.Errorf("line %d: it ends before it starts; write the start first", number)
		}
		if len(labels) == maxLabels {
			return nil, fmt.Errorf("line %d: there are more than %d labels; evaluate a part of the recording", number, maxLabels)
		}
		labels = append(labels, l)
	}
	slices.SortStableFunc(labels, func(a, b Label) int { return a.Start.Compare(b.Start) })
	return labels, nil
}

// WriteLabels writes labels as ReadLabels reads them.
func WriteLabels(w io.Writer, labels []Label) error {
	b := []byte("start,end,label\n")
	for _, l := range labels {
		b = appendTime(b, l.Start)
		b = append(b, ',')
		b = appendTime(b, l.End)
		b = append(b, ',')
		b = append(b, l.Truth...)
		b = append(b, '\n')
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write labels: %w", err)
	}
	return nil
}

// span is a time, without its end.
type span struct{ from, to time.Time }

// truth is labels made ready to be asked.
type truth struct {
	entries []span // when each entry is to be told, in the order of their starts
	entry   []span // these and the following are in order and apart
	away    []span // without what is entry or home
	home    []span
	periods []span        // as labelled away, for the share of those that had a false alarm
	empty   time.Duration // of away
	overlap time.Duration // labelled both away and home
}

// newTruth sorts labels out. An entry is told if that happens within this long after its start, and until then, or
// until its label ends, nothing is false. Where somebody says that a time is both away and home it counts as home: a
// false alarm has to be certain.
func newTruth(labels []Label, within time.Duration) truth {
	var t truth
	var entry, away, home []span
	for _, l := range labels {
		switch s := (span{l.Start, l.End}); l.Truth {
		case Entry:
			t.entries = append(t.entries, span{l.Start, l.Start.Add(within)})
			// An alarm at the very end of the window is still one in time.
			end := l.Start.Add(within + 1)
			if l.End.After(end) {
				end = l.End
			}
			entry = append(entry, span{l.Start, end})
		case Away:
			away = append(away, s)
		case Home:
			home = append(home, s)
		}
	}
	slices.SortStableFunc(t.entries, func(a, b span) int { return a.from.Compare(b.from) })
	t.entry, t.home = union(entry), union(home)
	t.periods = union(away)
	certain := subtract(t.periods, t.home)
	t.overlap = total(t.periods) - total(certain)
	t.away = subtract(certain, t.entry)
	t.empty = total(t.away)
	return t
}

// union joins spans that touch.
func union(s []span) []span {
	s = slices.SortedFunc(slices.Values(s), func(a, b span) int { return a.from.Compare(b.from) })
	var joined []span
	for _, x := range s {
		if n := len(joined); n > 0 && !x.from.After(joined[n-1].to) {
			if x.to.After(joined[n-1].to) {
				joined[n-1].to = x.to
			}
			continue
		}
		joined = append(joined, x)
	}
	return joined
}

// subtract takes the spans of b out of those of a; both are as union returns them.
func subtract(a, b []span) []span {
	var left []span
	for _, x := range a {
		i, _ := slices.BinarySearchFunc(b, x.from, func(s span, t time.Time) int {
			if s.to.After(t) {
				return 1
			}
			return -1
		})
		for ; i < len(b) && b[i].from.Before(x.to); i++ {
			if b[i].from.After(x.from) {
				left = append(left, span{x.from, b[i].from})
			}
			x.from = b[i].to
		}
		if x.from.Before(x.to) {
			left = append(left, x)
		}
	}
	return left
}

func total(s []span) (d time.Duration) {
	for _, x := range s {
		d += x.to.Sub(x.from)
	}
	return d
}

// find is the span of s that holds t, or -1; s is as union returns it.
func find(s []span, t time.Time) int {
	i, at := slices.BinarySearchFunc(s, t, func(x span, t time.Time) int { return x.from.Compare(t) })
	if !at {
		i--
	}
	if i >= 0 && t.Before(s[i].to) {
		return i
	}
	return -1
}
