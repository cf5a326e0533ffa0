package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/engine/enginetest"
	"github.com/dunlin/dunlin/internal/wire"
)

func TestReportsHaveTheShapeOfTheSupervisors(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.engine.Push(image(1), enginetest.Image{Size: 1000, Run: func(enginetest.World) enginetest.Behaviour {
			return enginetest.Behaviour{Deaf: true} // so that its end can be watched
		}})
		b.engine.Push(image(2), enginetest.Image{Size: 1000, Takes: 30 * time.Second, Run: enginetest.Probe})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(time.Minute)
		n := len(b.cloud.taken())
		b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(2), "")}))
		wait(2 * time.Minute)
		// The first one, and of the update those that last; what is over in no time may be reported or not.
		lasting := b.cloud.taken()[:1:1]
		for _, want := range [][2]string{{"Running", "Downloading"}, {"Stopping", "Installed"}} {
			i := slices.IndexFunc(b.cloud.taken()[n:], func(r sent) bool {
				rs := r.body.Apps[fleetUUID].Releases
				return want == [2]string{rs[commitA].Services["main"].Status, rs[commitB].Services["main"].Status}
			})
			if i < 0 {
				t.Fatalf("the old service was never reported %s while the new one was %s", want[0], want[1])
			}
			lasting = append(lasting, b.cloud.taken()[n:][i])
		}
		lasting = append(lasting, b.cloud.taken()[len(b.cloud.taken())-1])
		var texts []string
		for _, r := range lasting {
			var text bytes.Buffer
			if err := json.Indent(&text, plain(t, r.raw), "", "  "); err != nil {
				t.Fatal(err)
			}
			// How far a download is when it is reported is nobody's promise.
			texts = append(texts, regexp.MustCompile(`"download_progress": \d+`).ReplaceAllString(text.String()+"\n", `"download_progress": 93`))
		}
		golden(t, "reports.json", []byte(strings.Join(texts, "")))
	})
}

// TestReportsAreWhatTheSupervisorWouldHaveSent compares the shape of the golden reports with what a stock supervisor
// 19.0.5 was seen to send: the same names, one within the other, with values of the same kind.
func TestReportsAreWhatTheSupervisorWouldHaveSent(t *testing.T) {
	shapes := func(name string) map[string]string {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
			var v any
			if err := dec.Decode(&v); err != nil {
				t.Fatal(err)
			}
			shape(all, "", v)
		}
		return all
	}
	theirs := shapes("supervisor-reports.json")
	for path, kind := range shapes("reports.json") {
		if theirs[path] != kind {
			t.Errorf("%s is a %s, the supervisor's is %q", path, kind, theirs[path])
		}
	}
}

// shape writes down the kind of every value by its path; what is named by uuid, commit or service is any.
func shape(all map[string]string, path string, v any) {
	all[path] = fmt.Sprintf("%T", v)
	m, ok := v.(map[string]any)
	if !ok {
		return
	}
	for k, v := range m {
		if strings.HasSuffix(path, "apps") || strings.HasSuffix(path, "releases") || strings.HasSuffix(path, "services") {
			k = "*"
		}
		shape(all, path+"/"+k, v)
	}
}

// plain replaces what is of the machine the test runs on.
func plain(t *testing.T, raw json.RawMessage) json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"ip_address", "mac_address", "storage_block_device", "storage_usage", "storage_total"} {
		delete(m, k)
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs (-want +got):\n%s\nUPDATE=1 accepts it", path, d)
	}
}

func TestADeviceAtRestSaysNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(time.Minute)
		n := len(b.cloud.taken())
		wait(24 * time.Hour)
		for _, r := range b.cloud.taken()[n:] {
			if text := string(plain(t, r.raw)); text != "{}" { // the disk of the machine the test runs on is not at rest
				t.Errorf("reported %s in a day without a change", text)
			}
		}
	})
}

func TestMetricsAloneAreReportedSeldomAndOnlyIfTheyChangedMuch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		defer b.on()()
		wait(time.Minute)
		n := len(b.cloud.taken())
		for hot := range 60 {
			b.file("sys/class/thermal/thermal_zone0/temp", fmt.Sprint(40_000+hot%2*20_000))
			b.file("proc/meminfo", fmt.Sprintf("MemTotal: 24684544 kB\nMemAvailable: %d kB\n", 23592960+hot%2*1024))
			wait(time.Minute)
		}
		got := b.cloud.taken()[n:]
		if len(got) < 5 || len(got) > 13 {
			t.Errorf("sent %d reports in an hour of changing temperature", len(got))
		}
		for _, r := range got {
			if r.body.CPUTemp == nil || r.body.MemoryUsage != nil {
				t.Errorf("report %s, want the temperature and not one megabyte of memory", r.raw)
			}
		}
	})
}

func TestAChangeOfStateIsReportedWithinASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), `{"restart":"no"}`)}))
		defer b.on()()
		wait(time.Minute)
		b.engine.Exit(b.containers("main")[0].Name, 1)
		wait(time.Second)
		if got := b.cloud.lastApps()[fleetUUID].Releases[commitA].Services["main"].Status; got != wire.StatusExited {
			t.Errorf("a second after its end the service is reported %q", got)
		}
	})
}

func TestAServiceThatKeepsCrashingDoesNotFloodTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.engine.Push(image(1), enginetest.Image{Run: func(enginetest.World) enginetest.Behaviour {
			return enginetest.Behaviour{Exits: true, After: 11 * time.Second, Code: 1}
		}})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(time.Hour)
		if n := len(b.cloud.taken()); n > 420 {
			t.Errorf("sent %d reports in an hour, want no more than one in ten seconds", n)
		}
	})
}

func TestAReportThatIsRefusedIsSentAgainWhole(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.patchErr, b.cloud.patchFor = 503, 1
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(time.Minute)
		first := b.cloud.taken()[0].body
		if first.OSVersion == nil || *first.OSVersion != "balenaOS 6.0.0" || first.Apps == nil {
			t.Errorf("the first report that was taken is %s", b.cloud.taken()[0].raw)
		}
	})
}

func TestAServerThatTakesNoReportsIsAskedLessAndLess(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.patchErr, b.cloud.patchFor = 503, 1000
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(time.Hour)
		if n := len(b.cloud.tries); n < 10 || n > 17 {
			t.Errorf("tried %d times in an hour, want 15 s apart, then up to five minutes", n)
		}
	})
}

func TestADownloadIsReportedAsItGoes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.engine.Push(image(1), enginetest.Image{Size: 1000, Takes: 100 * time.Second, Run: enginetest.Probe})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(2 * time.Minute)
		var percents []int64
		for _, r := range b.cloud.taken() {
			s := r.body.Apps[fleetUUID].Releases[commitA].Services["main"]
			if s.DownloadProgress != nil {
				percents = append(percents, *s.DownloadProgress)
			} else if s.Status == wire.StatusDownloading {
				t.Errorf("a download without progress: %s", r.raw)
			}
		}
		if len(percents) < 8 || len(percents) > 25 || !slices.IsSorted(percents) || percents[len(percents)-1] < 80 {
			t.Errorf("progress was reported as %v", percents)
		}
	})
}

func TestTheHostIsDescribedByItsFiles(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.file("proc/cpuinfo", "processor\t: 0\nSerial\t\t: 10000000abcdef01\n")
		b.file("sys/class/hwmon/hwmon1/name", "rpi_volt\n")
		b.file("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
		h := newHost(b.root)
		used, total, ok := h.memory()
		if !ok || used != 1066 || total != 24106 {
			t.Errorf("memory is %d of %d MB, %v", used, total, ok)
		}
		if percent, ok := h.cpu(); !ok || percent != 63 {
			t.Errorf("cpu is %d %%, %v", percent, ok)
		}
		b.file("proc/stat", "cpu  73 0 0 127 0 0 0 0 0 0\n")
		if percent, ok := h.cpu(); !ok || percent != 10 {
			t.Errorf("then cpu is %d %%, %v", percent, ok)
		}
		if celsius, ok := h.temperature(); !ok || celsius != 48 {
			t.Errorf("temperature is %d °C, %v", celsius, ok)
		}
		if id := h.cpuID(); id != "10000000abcdef01" {
			t.Errorf("cpu id is %q", id)
		}
		if !h.undervolted() {
			t.Error("the weak supply is not seen")
		}
		if device, used, total, ok := newHost("/").storage(b.root); !ok || total <= 0 || used <= 0 || used > total || strings.Contains(device, " ") {
			t.Errorf("storage is %d of %d MB on %q, %v", used, total, device, ok)
		}
	})
}

func FuzzHostFiles(f *testing.F) {
	f.Add("cpu  63 0 0 37 0 0 0 0 0 0\n")
	f.Add("MemTotal: 9 kB\nSerial : x\nPRETTY_NAME=\"\n")
	f.Add("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		root := t.TempDir()
		for _, path := range []string{"proc/stat", "proc/meminfo", "proc/cpuinfo", "proc/self/mountinfo", "etc/os-release"} {
			path = filepath.Join(root, path)
			if os.MkdirAll(filepath.Dir(path), 0o755) != nil || os.WriteFile(path, []byte(text), 0o644) != nil {
				t.Skip("no disk")
			}
		}
		h := newHost(root)
		h.cpu()
		h.memory()
		h.cpuID()
		h.osVersion()
		h.storage(root)
	})
}
