package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
	"github.com/dunlin/dunlin/internal/wire"
)

// talks pushes image n, whose containers write lines.
func (b *bench) talks(n int, lines ...enginetest.Written) {
	b.engine.Push(image(n), enginetest.Image{Run: func(enginetest.World) enginetest.Behaviour { return enginetest.Behaviour{Lines: lines} }})
}

func (c *cloud) of(service string) []string {
	return slices.DeleteFunc(c.messages(), func(m string) bool { return !strings.HasPrefix(m, service+": ") })
}

func TestAServicesLinesArriveWithItsIDFromTheFirstOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.talks(1, enginetest.Written{Message: "first\r"}, enginetest.Written{Stderr: true, Message: "second"}, enginetest.Written{After: time.Hour, Message: "late"})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(5 * time.Second)
		if d := cmp.Diff([]string{"21: first", "21: second"}, b.cloud.of("21")); d != "" {
			t.Errorf("lines differ (-want +got):\n%s", d)
		}
		b.cloud.set(func(c *cloud) {
			for _, l := range c.lines {
				if l.IsStdErr != (l.Message == "second") || l.IsSystem != (l.ServiceID == nil) || time.Since(time.UnixMilli(l.Timestamp)).Abs() > time.Minute {
					t.Errorf("line %+v", l)
				}
			}
		})
		wait(time.Hour)
		if got := b.cloud.of("21"); got[len(got)-1] != "21: late" {
			t.Errorf("lines are %q", got)
		}
	})
}

func TestTheDevicesLogTellsWhatTheSupervisorWouldTell(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), `{"volumes":["data:/data"]}`)}))
		defer b.on()()
		wait(10 * time.Second)
		_, digest, _ := strings.Cut(image(1), "@")
		want := []string{
			"Agent starting",
			"Creating network 'default'", "Creating volume 'data'", "Downloading image '" + image(1) + "'", "Downloaded image '" + image(1) + "'",
			"Installing service 'main " + digest + "'", "Installed service 'main " + digest + "'",
			"Starting service 'main " + digest + "'", "Started service 'main " + digest + "'",
		}
		for i := range want {
			want[i] = "system: " + want[i]
		}
		got := b.cloud.of("system")
		slices.Sort(got[1:4]) // at once
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("lines differ (-want +got):\n%s", d)
		}
	})
}

func TestALineThatWasSentIsNotSentAgainByTheNextAgent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.talks(1, enginetest.Written{Message: "one"}, enginetest.Written{After: time.Minute, Message: "two"})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		off := b.on()
		wait(30 * time.Second)
		off()
		wait(10 * time.Minute) // in which the container writes on
		defer b.on()()
		wait(30 * time.Second)
		if d := cmp.Diff([]string{"21: one", "21: two"}, b.cloud.of("21")); d != "" {
			t.Errorf("lines differ (-want +got):\n%s", d)
		}
	})
}

func TestAContainerThatLivesForAMomentIsHeardAllTheSame(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.engine.Push(image(1), enginetest.Image{Run: func(enginetest.World) enginetest.Behaviour {
			return enginetest.Behaviour{Lines: []enginetest.Written{{Message: "hello"}}, Exits: true, After: time.Millisecond, Code: 3}
		}})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), `{"restart":"no"}`)}))
		defer b.on()()
		wait(time.Minute)
		if d := cmp.Diff([]string{"21: hello"}, b.cloud.of("21")); d != "" {
			t.Errorf("lines differ (-want +got):\n%s", d)
		}
	})
}

func TestEveryLifeOfARestartingContainerIsHeardOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		life := 0
		b.engine.Push(image(1), enginetest.Image{Run: func(enginetest.World) enginetest.Behaviour {
			life++
			return enginetest.Behaviour{
				Lines: []enginetest.Written{{Message: fmt.Sprint("life ", life)}}, Exits: life < 5, After: 100 * time.Millisecond, Code: 1,
			}
		}})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(time.Minute)
		if d := cmp.Diff([]string{"21: life 1", "21: life 2", "21: life 3", "21: life 4", "21: life 5"}, b.cloud.of("21")); d != "" {
			t.Errorf("lines differ (-want +got):\n%s", d)
		}
	})
}

func TestAnIdleStreamIsClosedAndOpenedAtTheNextLine(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.talks(1, enginetest.Written{After: 10 * time.Minute, Message: "awake"})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(5 * time.Minute)
		b.cloud.set(func(c *cloud) {
			if c.open != 0 || c.streams != 1 {
				t.Errorf("after idle minutes %d of %d streams are open", c.open, c.streams)
			}
		})
		wait(5*time.Minute + 2*time.Second)
		b.cloud.set(func(c *cloud) {
			if c.open != 1 || c.streams != 2 {
				t.Errorf("after a new line %d of %d streams are open", c.open, c.streams)
			}
		})
		if got := b.cloud.of("21"); !slices.Equal(got, []string{"21: awake"}) {
			t.Errorf("lines are %q", got)
		}
	})
}

func TestWhatIsWrittenWhileTheServerIsAwayIsBoundedAndSaysWhatIsMissing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var lines []enginetest.Written
		for i := range 10_000 {
			lines = append(lines, enginetest.Written{After: time.Minute + time.Duration(i)*time.Millisecond, Message: fmt.Sprintf("%0100d", i)})
		}
		b.talks(1, lines...)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(30 * time.Second)
		b.cloud.set(func(c *cloud) { c.down = true })
		wait(10 * time.Minute)
		b.cloud.set(func(c *cloud) { c.down = false })
		wait(10 * time.Minute)
		got := b.cloud.of("21")
		if len(got) < 1000 || len(got) > 2000 || got[len(got)-1] != fmt.Sprintf("21: %0100d", 9999) {
			t.Errorf("%d lines came, the last one %q", len(got), got[len(got)-1])
		}
		// What was on the way when the server went away is nobody's to count.
		said, dropped := b.cloud.of("system"), 0
		if _, err := fmt.Sscanf(said[len(said)-1], "system: Dropped %d log lines: more were written", &dropped); err != nil ||
			dropped > 10_000-len(got) || dropped < 9_800-len(got) {
			t.Errorf("the log says %q of %d missing lines", said[len(said)-1], 10_000-len(got))
		}
	})
}

func TestAServerThatHangsUpIsCalledAgainAndLosesLittle(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var lines []enginetest.Written
		for i := range 60 {
			lines = append(lines, enginetest.Written{After: time.Duration(i) * time.Second, Message: fmt.Sprint(i)})
		}
		b.talks(1, lines...)
		b.cloud.hangUp = 20
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(5 * time.Minute)
		got := b.cloud.of("21")
		if len(got) < 58 || len(slices.Compact(slices.Clone(got))) != len(got) || got[len(got)-1] != "21: 59" {
			t.Errorf("of 60 lines came %d: %q", len(got), got)
		}
	})
}

func TestAServiceMayKeepItsLinesToItself(t *testing.T) {
	for level, want := range map[string][]string{"none": nil, "err": {"21: bad"}, "all": {"21: good", "21: bad"}} {
		t.Run(level, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.talks(1, enginetest.Written{Message: "good"}, enginetest.Written{Stderr: true, Message: "bad"})
				s := service(21, image(1), "")
				s.Environment["BALENA_LOGS_LEVEL"] = level
				b.cloud.want(release(commitA, map[string]wire.Service{"main": s}))
				defer b.on()()
				wait(time.Minute)
				if got := b.cloud.of("21"); !slices.Equal(got, want) {
					t.Errorf("lines are %q, want %q", got, want)
				}
			})
		})
	}
}

func TestLogShippingCanBeSwitchedOff(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.talks(1, enginetest.Written{Message: "secret"})
		d := release(commitA, map[string]wire.Service{"main": service(21, image(1), "")})
		d.Config["BALENA_SUPERVISOR_LOG_CONTROL"] = "false"
		b.cloud.want(d)
		defer b.on()()
		wait(time.Minute)
		b.mustRun(map[string]int{"main": 1})
		if got := b.cloud.messages(); len(got) > 1 { // the agent starts before it knows
			t.Errorf("lines are %q", got)
		}
	})
}

func TestABufferKeepsTheNewestLines(t *testing.T) {
	b := newBuffer()
	for i := range 20 {
		b.add(entry{line: wire.LogLine{Message: strings.Repeat("x", engine.MaxLine), Timestamp: int64(i)}, at: time.UnixMilli(int64(i))})
	}
	first := b.take()
	b.add(entry{line: wire.LogLine{Message: "new"}})
	b.giveBack(first)
	b.giveBack(batch{})
	for range 20 {
		b.add(entry{line: wire.LogLine{Message: strings.Repeat("y", engine.MaxLine)}})
	}
	got := b.take()
	bytes := 0
	for _, e := range got.entries {
		bytes += e.cost()
	}
	if bytes > bufferSize || bytes < bufferSize-2*engine.MaxLine || got.entries[len(got.entries)-1].line.Message[0] != 'y' {
		t.Errorf("the buffer holds %d bytes", bytes)
	}
	if want := 41 - len(got.entries); got.dropped != want {
		t.Errorf("it dropped %d lines, want %d", got.dropped, want)
	}
	want := fmt.Sprintf("Dropped %d log lines: more were written than could be sent", got.dropped)
	if lines := got.lines(time.Now()); lines[0].Message != want || len(lines) != len(got.entries)+1 {
		t.Errorf("it says %q, want %q", lines[0].Message, want)
	}
}
