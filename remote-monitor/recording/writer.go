package recording

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// appendTime writes a time with milliseconds, in UTC.
func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}

// append writes the row with its line end. Volts have five decimals, which is less than a step of 18 bits.
func (row Row) append(b []byte) []byte {
	b = appendTime(b, row.Time)
	b = append(b, ',')
	if strings.ContainsAny(row.Zone, `",`) || row.Zone != strings.TrimSpace(row.Zone) {
		b = append(b, '"')
		b = append(b, strings.ReplaceAll(row.Zone, `"`, `""`)...)
		b = append(b, '"')
	} else {
		b = append(b, row.Zone...)
	}
	b = append(b, ',')
	switch {
	case row.Kind == Unknown:
		b = append(b, "UNKNOWN"...)
	case row.Kind == Sample:
		b = strconv.AppendFloat(b, math.Round(row.Volts*1e5)/1e5, 'f', -1, 64)
	case row.Active:
		b = append(b, "ON"...)
	default:
		b = append(b, "OFF"...)
	}
	return append(b, '\n')
}

// How a Writer treats its disk.
const (
	flushEvery = time.Second // of the rows' time: what a kill may lose
	bufferSize = 1 << 16
)

// Writer writes a recording. Rows reach the file within a second of their own time, when the buffer is full, on
// Flush and on Close; they are forced onto the disk when a file is finished. It is not safe for concurrent use.
type Writer struct {
	out     *bufio.Writer
	row     []byte
	flushed time.Time

	file  *os.File // nil if it was made by NewWriter
	path  string
	limit int64 // 0: none
	keep  int
	size  int64
}

// NewWriter writes a recording to w, header first. Close flushes and does not close w.
func NewWriter(w io.Writer) *Writer {
	rec := &Writer{out: bufio.NewWriterSize(w, bufferSize)}
	rec.header()
	return rec
}

// Create writes a recording to the file path and adds to it if it exists; what a crash left of its last line is cut
// off. When the file has grown beyond limit bytes it is renamed path.1, path.1 to path.2 and so on, keep old ones are
// kept, and a new file begun. A limit of 0 means that one file takes everything.
func Create(path string, limit int64, keep int) (*Writer, error) {
	w := &Writer{path: path, limit: limit, keep: keep}
	if err := w.open(); err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	return w, nil
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	size, err := wholeLines(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.file, w.size, w.out = f, size, bufio.NewWriterSize(f, bufferSize)
	if size == 0 {
		w.header()
	}
	return nil
}

// wholeLines is the size of the file without a last line that has no end. Such a line is shorter than the longest
// row; a file that ends in a longer one is no recording and nothing is cut off it.
func wholeLines(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	tail := make([]byte, min(info.Size(), maxLine))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return 0, err
	}
	end := bytes.LastIndexByte(tail, '\n') + 1
	if end == 0 && len(tail) > 0 && (len(tail) == maxLine || !bytes.HasPrefix([]byte(head), tail)) {
		return 0, fmt.Errorf("%s is no recording; choose another name", f.Name())
	}
	return info.Size() - int64(len(tail)-end), nil
}

const head = "timestamp,zone,value\n"

func (w *Writer) header() {
	n, _ := w.out.WriteString(head) // an error stays in the bufio.Writer
	w.size += int64(n)
}

// Write writes one row; Row.Line means nothing.
func (w *Writer) Write(row Row) error {
	if wrong := validName(row.Zone); wrong != "" {
		return fmt.Errorf("write recording: %s", wrong)
	}
	w.row = row.append(w.row[:0])
	if w.limit > 0 && w.size+int64(len(w.row)) > w.limit && w.size > int64(len(head)) {
		if err := w.rotate(); err != nil {
			return fmt.Errorf("rotate recording: %w", err)
		}
	}
	n, err := w.out.Write(w.row)
	w.size += int64(n)
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	if since := row.Time.Sub(w.flushed); since >= flushEvery || since < 0 {
		w.flushed = row.Time
		return w.Flush()
	}
	return nil
}

// WriteAll writes rows until one cannot be written.
func (w *Writer) WriteAll(rows iter.Seq[Row]) error {
	for row := range rows {
		if err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}

// Flush hands to the file what is buffered.
func (w *Writer) Flush() error {
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return nil
}

// Close flushes, and syncs and closes the file that Create opened.
func (w *Writer) Close() error {
	err := w.Flush()
	if w.file != nil {
		err = errors.Join(err, w.file.Sync(), w.file.Close())
	}
	return err
}

func (w *Writer) rotate() error {
	if err := w.Close(); err != nil {
		return err
	}
	old := func(n int) string { return w.path + "." + strconv.Itoa(n) }
	for n := w.keep - 1; n >= 1; n-- {
		if err := os.Rename(old(n), old(n+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	var err error
	if w.keep > 0 {
		err = os.Rename(w.path, old(1))
	} else {
		err = os.Remove(w.path)
	}
	return cmp.Or(err, w.open())
}

// Recorder writes scans as rows: of a zone that is sampled the volts of each scan, of a line its changes and how it
// stood at the beginning, and the supply where it is measured. Set its fields before the first Scan.
type Recorder struct {
	Writer *Writer
	Zones  []zone.Settings // as in zone.Config

	told []string // by zone: what a line was last said to be
}

// Scan writes one scan.
func (r *Recorder) Scan(s zone.Scan) error {
	if r.told == nil {
		r.told = make([]string, len(r.Zones))
	}
	if s.Supply > 0 {
		if err := r.Writer.Write(Row{Time: s.Time, Zone: Supply, Kind: Sample, Volts: s.Supply}); err != nil {
			return err
		}
	}
	for _, reading := range s.Readings {
		z := r.Zones[reading.Zone]
		row := Row{Time: s.Time, Zone: z.Name, Kind: Sample, Volts: reading.Volts}
		line := z.Signal == zone.Contact || z.Signal == zone.Edges
		if line {
			row = Row{Time: s.Time, Zone: z.Name, Kind: Edge, Active: reading.Active}
		}
		if reading.Unknown != "" || !line && (math.IsNaN(reading.Volts) || math.IsInf(reading.Volts, 0)) {
			row.Kind = Unknown
		}
		if line {
			now := row.said()
			if now == r.told[reading.Zone] {
				continue
			}
			r.told[reading.Zone] = now
		}
		if err := r.Writer.Write(row); err != nil {
			return err
		}
	}
	return nil
}

// said is what a line was said to be.
func (row Row) said() string {
	switch {
	case row.Kind == Unknown:
		return "unknown"
	case row.Active:
		return "on"
	default:
		return "off"
	}
}
