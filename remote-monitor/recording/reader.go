package recording

import (
	"bufio"
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a recording, against files that are something else.
const (
	maxLine  = 4096  // bytes
	maxZones = 1024  // of one recording
	maxVolts = 100   // of a sample, either way
	lookOut  = 65536 // rows that are sorted among each other
)

// Reader reads a recording in the order of its times, in memory that does not grow with it. Rows that are out of
// order are sorted as long as no more than 65,536 rows come between; rows of one time stay in the order of the file.
// It is not safe for concurrent use.
type Reader struct {
	in    *bufio.Reader
	line  int
	clock clock
	zones map[string]*known
	err   error // of the file; what was read before is given out first if it is io.EOF

	queue []Row // in order, from head
	head  int
	late  stragglers // those that are before the last of the queue
	last  time.Time  // given out
}

// known is a zone that the recording has.
type known struct {
	name string
	kind Kind // Edge or Sample; Unknown as long as that is all there was
	line int  // where that was seen
}

// NewReader reads the recording in r.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(r, maxLine), zones: map[string]*known{}}
}

// Next returns the next row, or io.EOF after the last one. An error that is not of r says in which line something is
// wrong and what to write instead.
func (r *Reader) Next() (Row, error) {
	for r.err == nil && len(r.queue)-r.head+len(r.late) < lookOut {
		row, err := r.read()
		if err != nil {
			r.err = err
			break
		}
		r.push(row)
	}
	if r.err != nil && !errors.Is(r.err, io.EOF) {
		return Row{}, r.err
	}
	row, ok := r.pop()
	if !ok {
		return Row{}, r.err
	}
	if row.Time.Before(r.last) {
		r.err = fmt.Errorf("line %d: the row is out of order by more than %d rows; sort the recording by time, for example with sort(1)", row.Line, lookOut)
		return Row{}, r.err
	}
	r.last = row.Time
	return row, nil
}

func (r *Reader) push(row Row) {
	if len(r.queue) > r.head && row.Time.Before(r.queue[len(r.queue)-1].Time) {
		heap.Push(&r.late, row)
		return
	}
	if len(r.queue) == cap(r.queue) {
		if r.head > len(r.queue)/2 {
			r.queue = r.queue[:copy(r.queue, r.queue[r.head:])]
			r.head = 0
		} else {
			r.queue = slices.Grow(r.queue, len(r.queue)+64)
		}
	}
	r.queue = append(r.queue, row)
}

func (r *Reader) pop() (Row, bool) {
	queued := r.head < len(r.queue)
	switch {
	case !queued && len(r.late) == 0:
		return Row{}, false
	case !queued || len(r.late) > 0 && before(r.late[0], r.queue[r.head]):
		return heap.Pop(&r.late).(Row), true
	}
	r.head++
	return r.queue[r.head-1], true
}

// read is the next row of the file, in the file's order.
func (r *Reader) read() (Row, error) {
	for {
		line, err := readLine(r.in, &r.line)
		if err != nil {
			return Row{}, err
		}
		f, wrong := fields(line)
		if wrong != "" {
			return Row{}, fmt.Errorf("line %d: %s; write timestamp,zone,value", r.line, wrong)
		}
		if isHeader(f, [3]string{"timestamp", "zone", "value"}) {
			continue
		}
		return r.row(f)
	}
}

func (r *Reader) row(f [3][]byte) (Row, error) {
	row := Row{Line: r.line}
	var ok bool
	if row.Time, ok = r.clock.parse(f[0]); !ok {
		return Row{}, fmt.Errorf("line %d: %q is no time; %s", r.line, f[0], howTime)
	}
	z := r.zones[string(f[1])]
	if z == nil {
		name := string(f[1])
		if wrong := validName(name); wrong != "" {
			return Row{}, fmt.Errorf("line %d: %s", r.line, wrong)
		}
		if len(r.zones) == maxZones {
			return Row{}, fmt.Errorf("line %d: there are more than %d zones; is the second column the zone?", r.line, maxZones)
		}
		z = &known{name: name, kind: Unknown}
		r.zones[name] = z
	}
	row.Zone = z.name
	wrong := row.value(f[2])
	if wrong != "" {
		return Row{}, fmt.Errorf("line %d: %s", r.line, wrong)
	}
	switch {
	case row.Kind == Unknown || row.Kind == z.kind:
	case row.Kind == Edge && row.Zone == Supply:
		return Row{}, fmt.Errorf("line %d: %s is the measured supply; write it in volts", r.line, Supply)
	case z.kind == Unknown:
		z.kind, z.line = row.Kind, r.line
	default:
		return Row{}, fmt.Errorf("line %d: zone %q has ON or OFF in one line and volts in another (line %d); give them two names", r.line, z.name, z.line)
	}
	return row, nil
}

// words are the values that are not numbers.
var words = []struct {
	word   string
	kind   Kind
	active bool
}{
	{"ON", Edge, true}, {"OFF", Edge, false},
	{"OPEN", Edge, true}, {"CLOSE", Edge, false}, {"OPENED", Edge, true}, {"CLOSED", Edge, false},
	{"UNKNOWN", Unknown, false}, {"UNAVAILABLE", Unknown, false},
}

// value reads the third column into the row, and says what is wrong with it.
func (row *Row) value(b []byte) (wrong string) {
	if len(b) > 0 && (b[0] >= '0' && b[0] <= '9' || b[0] == '-' || b[0] == '+' || b[0] == '.') {
		v, err := strconv.ParseFloat(string(b), 64)
		if err != nil {
			return fmt.Sprintf("%q is no number of volts; write it as 2.4512", b)
		}
		if math.Abs(v) > maxVolts {
			return fmt.Sprintf("%q is more than %d V; is it in millivolts? write volts", b, maxVolts)
		}
		row.Kind, row.Volts = Sample, v
		return ""
	}
	for _, w := range words {
		if len(b) == len(w.word) && strings.EqualFold(string(b), w.word) {
			row.Kind, row.Active = w.kind, w.active
			return ""
		}
	}
	return fmt.Sprintf("%q is no value; write ON or OFF, a number of volts, or UNKNOWN", b)
}

// readLine returns the next line that is not empty, without its end. It is good until the next call.
func readLine(in *bufio.Reader, number *int) ([]byte, error) {
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("line %d: it is longer than %d bytes; is this a CSV file?", *number+1, maxLine)
		}
		if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
			return nil, err
		}
		*number++
		if *number == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

// before is the order in which rows are given out.
func before(a, b Row) bool {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c < 0
	}
	return a.Line < b.Line
}

// stragglers is a heap of rows.
type stragglers []Row

func (s stragglers) Len() int           { return len(s) }
func (s stragglers) Less(i, j int) bool { return before(s[i], s[j]) }
func (s stragglers) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *stragglers) Push(x any)        { *s = append(*s, x.(Row)) }
func (s *stragglers) Pop() any {
	old := *s
	x := old[len(old)-1]
	*s = old[:len(old)-1]
	return x
}
