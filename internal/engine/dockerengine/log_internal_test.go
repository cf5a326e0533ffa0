package dockerengine

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/engine"
)

const (
	one   = "2026-08-01T10:00:00.000000001Z "
	two   = "2026-08-01T10:00:00.000000002Z "
	three = "2026-08-01T10:00:00.000000003Z "
)

func frame(output byte, pieces ...string) string {
	var b strings.Builder
	for _, p := range pieces {
		header := []byte{output, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(header[4:], uint32(len(p)))
		b.Write(header)
		b.WriteString(p)
	}
	return b.String()
}

// lines reads a stream byte by byte, as slow as it can come, and at once, and sees that both give the same.
func lines(t *testing.T, read func(io.Reader, func(engine.Line)) error, stream string) []engine.Line {
	t.Helper()
	var fast, slow []engine.Line
	if err := read(strings.NewReader(stream), func(l engine.Line) { fast = append(fast, l) }); err != nil {
		t.Fatal(err)
	}
	if err := read(iotest.OneByteReader(strings.NewReader(stream)), func(l engine.Line) { slow = append(slow, l) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(fast, slow) {
		t.Fatalf("read at once: %v, byte by byte: %v", fast, slow)
	}
	return fast
}

func at(n int) time.Time { return time.Date(2026, 8, 1, 10, 0, 0, n, time.UTC) }

func TestPiecesOfALineAreJoinedAndSplitWhereLinesMayBe(t *testing.T) {
	long := strings.Repeat("é", 17<<10) // 34 KiB: two whole pieces and the rest
	pieces := []string{one + long[:pieceSize], one + long[pieceSize:2*pieceSize], one + long[2*pieceSize:]}
	for name, got := range map[string][]engine.Line{
		"frames":   lines(t, readFrames, frame(1, pieces[0])+frame(2, two+"in between\n")+frame(1, pieces[1:]...)+frame(1, "\n")+frame(1, three+"end")),
		"terminal": lines(t, readTerminal, strings.Join(pieces, "")+"\r\n"+three+"end"),
	} {
		var all strings.Builder
		for _, l := range got[:len(got)-1] {
			if l.Stderr {
				continue
			}
			if len(l.Message) > engine.MaxLine || len(l.Message) < engine.MaxLine-4 && l.Message != got[len(got)-2].Message || !utf8.ValidString(l.Message) {
				t.Errorf("%s: a part has %d bytes", name, len(l.Message))
			}
			if !l.Time.Equal(at(1)) {
				t.Errorf("%s: a part is of %v", name, l.Time)
			}
			all.WriteString(l.Message)
		}
		if all.String() != long {
			t.Errorf("%s: the parts are not the line", name)
		}
		if last := got[len(got)-1]; last.Message != "end" || !last.Time.Equal(at(3)) {
			t.Errorf("%s: after it came %+v", name, last)
		}
	}
}

func TestALineOfTheGreatestLengthIsOne(t *testing.T) {
	text := strings.Repeat("x", engine.MaxLine)
	for _, got := range [][]engine.Line{
		lines(t, readFrames, frame(1, one+text+"\n", two+"\n")),
		lines(t, readTerminal, one+text+"\r\n"+two+"\r\n"),
	} {
		want := []engine.Line{{Time: at(1), Message: text}, {Time: at(2)}}
		if !slices.Equal(got, want) {
			t.Errorf("got %d lines", len(got))
		}
	}
}

func TestATerminalsLineIsHandedOnWhenItEndsNotWhenTheNextBegins(t *testing.T) {
	r, w := io.Pipe()
	got := make(chan engine.Line)
	done := make(chan error, 1)
	go func() { done <- readTerminal(r, func(l engine.Line) { got <- l }) }()
	io.WriteString(w, one+"a\r\n")
	if l := <-got; l.Message != "a" {
		t.Errorf("got %+v", l)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAStreamThatBreaksOffSaysSo(t *testing.T) {
	for _, stream := range []string{frame(1, one+"whole\n") + "\x01\x00\x00", frame(1, one+"half a frame")[:30]} {
		var got []engine.Line
		if err := readFrames(strings.NewReader(stream), func(l engine.Line) { got = append(got, l) }); err != io.ErrUnexpectedEOF {
			t.Errorf("got %v after %v", err, got)
		}
	}
	if err := readFrames(strings.NewReader(frame(3, "cannot read the log")), nil); err == nil || !strings.Contains(err.Error(), "cannot read the log") {
		t.Errorf("got %v", err)
	}
	if err := readFrames(strings.NewReader(frame(9, "x")), nil); err == nil {
		t.Error("an output that is none was read")
	}
}

func FuzzLogStreams(f *testing.F) {
	f.Add([]byte(frame(1, one+"a\n", two+"b") + frame(2, three+"c\n")))
	f.Add([]byte(one + "a\r\n" + two + strings.Repeat("b", pieceSize) + two + "c\r\n"))
	f.Add([]byte("no time\n\n \x01\x00\x00\x00\xff\xff\xff\xff"))
	f.Add([]byte(frame(0, "") + frame(1, strings.Repeat("z", 70))))
	f.Fuzz(func(t *testing.T, stream []byte) {
		for _, read := range []func(io.Reader, func(engine.Line)) error{readFrames, readTerminal} {
			bytesOut := 0
			read(bytes.NewReader(stream), func(l engine.Line) {
				if len(l.Message) > engine.MaxLine || strings.Contains(l.Message, "\n") {
					t.Errorf("a line of %d bytes", len(l.Message))
				}
				bytesOut += len(l.Message)
			})
			if bytesOut > len(stream) {
				t.Errorf("%d bytes came of %d", bytesOut, len(stream))
			}
		}
	})
}

// Whatever a container writes comes out again, in frames and over a terminal.
func FuzzLinesComeBack(f *testing.F) {
	f.Add("hello\n\nworld")
	f.Add(strings.Repeat("0123456789", 3500) + "\nend\n")
	f.Add(strings.Repeat("x", pieceSize-1) + "\n" + strings.Repeat("y", pieceSize) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "\r") || !utf8.ValidString(text) {
			t.Skip()
		}
		pieces := func(text string) (all []string) {
			for _, line := range strings.SplitAfter(text, "\n") {
				for len(line) > 0 {
					n := min(len(line), pieceSize)
					all, line = append(all, one+line[:n]), line[n:]
				}
			}
			return all
		}
		frames := frame(1, pieces(text)...)
		terminal := strings.Join(pieces(strings.ReplaceAll(text, "\n", "\r\n")), "")
		want := strings.ReplaceAll(text, "\n", "")
		for name, got := range map[string][]engine.Line{
			"frames": lines(t, readFrames, frames), "terminal": lines(t, readTerminal, terminal),
		} {
			var all strings.Builder
			for _, l := range got {
				all.WriteString(l.Message)
			}
			if all.String() != want {
				t.Errorf("%s: %q came back as %q", name, text, all.String())
			}
		}
	})
}
