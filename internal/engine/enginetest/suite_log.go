package enginetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

var logChecks = []check{
	{"LinesComeInOrderWithTheirTimesAndStreams", func(t *trial) {
		c := t.container("c", "out:one", "wait:60ms", "err:two", "wait:60ms", "out:", "wait:60ms", "raw:no end", "exit:0")
		began := time.Now().Add(-time.Minute)
		t.start(c)
		t.status(c.Name, engine.Exited)
		lines := t.lines(c.Name)
		if got := texts(lines); !slices.Equal(got, []string{"one", "! two", "", "no end"}) {
			t.Errorf("it wrote %q", got)
		}
		last := began
		for _, l := range lines {
			if !l.Time.After(last) {
				t.Errorf("times do not rise: %v after %v", l.Time, last)
			}
			last = l.Time
		}
		if last.After(time.Now().Add(time.Minute)) {
			t.Errorf("the last line is of %v", last)
		}
	}},
	{"LogsGoOnAfterTheLastLineSeen", func(t *trial) {
		c := t.container("c", "out:one", "wait:60ms", "out:two", "wait:60ms", "out:three", "exit:0")
		t.start(c)
		lines := t.lines(c.Name)
		if len(lines) != 3 {
			t.Fatalf("it wrote %v", lines)
		}
		for i := range lines {
			var rest []engine.Line
			t.must(t.Logs(t.Context(), c.Name, lines[i].Time, func(l engine.Line) { rest = append(rest, l) }))
			if !slices.Equal(texts(rest), texts(lines[i+1:])) {
				t.Errorf("after line %d came %q", i, texts(rest))
			}
		}
	}},
	{"LogsFollowUntilTheContainerEnds", func(t *trial) {
		c := t.container("c", "out:ready", "wait:400ms", "out:later", "wait:200ms", "exit:0")
		t.start(c)
		var first, later time.Time
		t.must(t.Logs(t.Context(), c.Name, time.Time{}, func(l engine.Line) {
			switch l.Message {
			case "ready":
				first = l.Time
			case "later":
				later = l.Time
			}
		}))
		if first.IsZero() || later.Sub(first) < 300*time.Millisecond {
			t.Errorf("ready at %v, later at %v", first, later)
		}
		if now, _ := t.look(c.Name); now.Status == engine.Running {
			t.Error("Logs returned while it ran")
		}
	}},
	{"LogsEndWithTheirContext", func(t *trial) {
		c := t.container("c", "out:ready")
		t.start(c)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			done <- t.Logs(ctx, c.Name, time.Time{}, func(engine.Line) { cancel() })
		}()
		select {
		case err := <-done:
			t.mustBe(context.Canceled, err)
		case <-time.After(patience):
			t.Fatal("Logs follows after its context has ended")
		}
	}},
	{"ALongLineIsSplit", func(t *trial) {
		for _, tty := range []bool{false, true} {
			c := t.container(map[bool]string{false: "pipe", true: "tty"}[tty], "out:before", "long:45000", "out:after", "exit:0")
			c.TTY = tty
			t.start(c)
			t.status(c.Name, engine.Exited)
			lines := t.lines(c.Name)
			if len(lines) < 7 {
				t.Fatalf("tty %v: it wrote %d lines", tty, len(lines))
			}
			var all strings.Builder
			for _, l := range lines[1 : len(lines)-1] {
				if len(l.Message) > engine.MaxLine || l.Message == "" {
					t.Errorf("tty %v: a part has %d bytes", tty, len(l.Message))
				}
				if !l.Time.Equal(lines[1].Time) {
					t.Errorf("tty %v: the parts have several times", tty)
				}
				all.WriteString(l.Message)
			}
			if lines[0].Message != "before" || lines[len(lines)-1].Message != "after" || all.String() != digits(45000) {
				t.Errorf("tty %v: the parts are not the line: %d bytes", tty, all.Len())
			}
		}
	}},
	{"LinesOfATerminalHaveNoCarriageReturn", func(t *trial) {
		c := t.container("c", "out:one", "wait:60ms", "err:two", "wait:60ms", "raw:three", "exit:0")
		c.TTY = true
		t.start(c)
		t.status(c.Name, engine.Exited)
		if got := t.output(c.Name); !slices.Equal(got, []string{"one", "two", "three"}) { // a terminal has one stream
			if !slices.Equal(got, []string{"one", "! two", "three"}) {
				t.Errorf("it wrote %q", got)
			}
		}
	}},
	{"LogsOfAContainerThatNeverRanAreEmpty", func(t *trial) {
		c := t.container("c", "out:one")
		t.must(t.Create(t.Context(), c))
		if got := t.output(c.Name); len(got) != 0 {
			t.Errorf("it wrote %q", got)
		}
	}},
	{"LogsGoOnOverARestart", func(t *trial) {
		c := t.container("c", "out:run", "wait:50ms", "exit:1")
		c.Restart = "on-failure:2"
		t.start(c)
		t.status(c.Name, engine.Exited)
		if got := t.output(c.Name); !slices.Equal(got, []string{"run", "run", "run"}) {
			t.Errorf("three runs wrote %q", got)
		}
		t.must(t.Remove(t.Context(), c.Name))
		if err := t.Logs(t.Context(), c.Name, time.Time{}, func(engine.Line) {}); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("logs of a removed container: %v", err)
		}
	}},
}
