package wire_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/wire"
)

// recorded is a report as a stock supervisor sends it while it updates.
const recorded = `{"5ea4ae56dadb4ceca87ce2b79983b355":{"cpu_usage":91,"memory_usage":1143,"logs_channel":null,"apps":{
"f1eeaf1eeaf1eeaf1eeaf1eeaf1eea00":{"release_uuid":"abcdefabcdefabcdefabcdefabcdef12","releases":{
"bbbbbbabcdefabcdefabcdefabcdef12":{"update_status":"downloading","services":{"main":{
"image":"127.0.0.1:5055/v2/22222222222222222222222222222bbb@sha256:349a","status":"Downloading","download_progress":93}}},
"abcdefabcdefabcdefabcdefabcdef12":{"update_status":"done","services":{"main":{"image":"127.0.0.1:5055/v2/1111","status":"Running"}}}}}}}}`

func TestAStockSupervisorsReportIsUnderstood(t *testing.T) {
	r, err := wire.ParseReport(strings.NewReader(recorded))
	if err != nil {
		t.Fatal(err)
	}
	d := r["5ea4ae56dadb4ceca87ce2b79983b355"]
	if got := d.UpdateStatus(); got != wire.Downloading {
		t.Errorf("the device's update status is %q, want the worst one, downloading", got)
	}
	svc := d.Apps["f1eeaf1eeaf1eeaf1eeaf1eeaf1eea00"].Releases["bbbbbbabcdefabcdefabcdefabcdef12"].Services["main"]
	if svc.Status != wire.StatusDownloading || svc.DownloadProgress == nil || *svc.DownloadProgress != 93 {
		t.Errorf("service is %+v", svc)
	}
	if d.OSVersion != nil {
		t.Error("a field that was not sent says something")
	}
}

func TestAReportIsCutToWhatTheDatabaseHolds(t *testing.T) {
	long := strings.Repeat("é", 100)
	r, err := wire.ParseReport(strings.NewReader(`{"u":{"supervisor_version":"` + long + `","memory_usage":99999999999999,"provisioning_progress":400,
		"apps":{"a":{"releases":{"c":{"services":{"s":{"image":"i","status":"x","download_progress":-3}}}}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	d := r["u"]
	if got := *d.SupervisorVersion; len(got) > 20 || !strings.HasPrefix(long, got) {
		t.Errorf("version is cut to %q", got)
	}
	if *d.MemoryUsage != 1<<31-1 || *d.Provisioning.Value != 100 {
		t.Errorf("numbers are %d and %d", *d.MemoryUsage, *d.Provisioning.Value)
	}
	if p := *d.Apps["a"].Releases["c"].Services["s"].DownloadProgress; p != 0 {
		t.Errorf("progress is %d", p)
	}
}

func TestAReportThatIsNoneIsRefused(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":               "",
		"no object":             "[]",
		"no device":             "{}",
		"an unknown state":      `{"u":{"apps":{"a":{"releases":{"c":{"update_status":"dancing"}}}}}}`,
		"a number as a text":    `{"u":{"status":7}}`,
		"more than the maximum": `{"u":{"status":"` + strings.Repeat("x", wire.MaxReport) + `"}}`,
	} {
		if _, err := wire.ParseReport(strings.NewReader(body)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestATargetWithTwoReleasesOfOneAppIsRefused(t *testing.T) {
	body := `{"u":{"name":"n","config":{},"apps":{"a":{"releases":{"c1":{},"c2":{}}}}}}`
	if _, err := wire.ParseTarget([]byte(body), "u"); err == nil {
		t.Error("two releases were taken; a device can run one")
	}
	if _, err := wire.ParseTarget([]byte(`{"other":{}}`), "u"); err == nil {
		t.Error("another device's target was taken")
	}
}

func TestATargetThatLeavesOutWhatToRunIsRefused(t *testing.T) {
	for body, want := range map[string]bool{
		`{"u":{}}`:                               false,
		`{"u":null}`:                             false,
		`{"u":{"apps":null}}`:                    false,
		`{"u":{"apps":{}}}`:                      false,
		`{"u":{"apps":[]}}`:                      false,
		`{"u":{"apps":{"a":null}}}`:              false,
		`{"u":{"apps":{"a":{"id":1}}}}`:          false,
		`{"u":{"apps":{"a":{"releases":null}}}}`: false,
		`{"u":{"apps":{"a":{"releases":{}}}}}`:   true,
	} {
		if _, err := wire.ParseTarget([]byte(body), "u"); (err == nil) != want {
			t.Errorf("%s: %v, want taken %v", body, err, want)
		}
	}
}

func TestANullSaysThatThereIsNoValueAnyMore(t *testing.T) {
	seven := int64(7)
	for body, want := range map[string]wire.Nullable[int64]{
		`{"u":{"status":"Idle"}}`:              {},
		`{"u":{"provisioning_progress":null}}`: {Said: true},
		`{"u":{"provisioning_progress":7}}`:    {Said: true, Value: &seven},
	} {
		r, err := wire.ParseReport(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, r["u"].Provisioning); d != "" {
			t.Errorf("%s is read otherwise (-want +got):\n%s", body, d)
		}
		if b, err := json.Marshal(r); err != nil || string(b) != body {
			t.Errorf("%s comes back as %s (%v)", body, b, err)
		}
	}
}

func TestALogLineThatCarriesAUUIDIsDropped(t *testing.T) {
	for line, want := range map[string]bool{
		`{"message":"m","timestamp":1}`:                   true,
		`{"message":"m","timestamp":1,"serviceId":3}`:     true,
		`{"message":"m","timestamp":1,"uuid":"x"}`:        false,
		`{"message":7,"timestamp":1}`:                     false,
		`{"timestamp":1}`:                                 false,
		`{"message":"m"}`:                                 false,
		`{"message":"m","timestamp":-1}`:                  false,
		`{"message":"m","timestamp":1,"serviceId":"abc"}`: false,
		`[]`: false,
	} {
		if _, ok, err := wire.ParseLogLine([]byte(line)); ok != want || err != nil {
			t.Errorf("%s: kept %v (%v), want %v", line, ok, err, want)
		}
	}
	if _, _, err := wire.ParseLogLine([]byte(`{"message`)); err == nil {
		t.Error("half a line was taken for a line")
	}
}

func TestALogLineComesBackAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := wire.LogLine{
			Message: rapid.StringN(0, 200, 1000).Draw(t, "message"), Timestamp: rapid.Int64Range(0, 1<<53).Draw(t, "timestamp"),
			IsSystem: rapid.Bool().Draw(t, "system"), IsStdErr: rapid.Bool().Draw(t, "stderr"),
		}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := wire.ParseLogLine(b)
		if !ok || err != nil || got != want {
			t.Fatalf("sent %+v, got %+v (%v, %v)", want, got, ok, err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(recorded))
	f.Add([]byte(`{"u":{"apps":{"a":{"releases":{"c":{"services":{"s":{}}}}}}}}`))
	f.Add([]byte(`{"u":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := wire.ParseReport(bytes.NewReader(body))
		if err != nil {
			return
		}
		for _, d := range r {
			if d.OSVersion != nil && len(*d.OSVersion) > 70 {
				t.Errorf("an over-long text came through: %d bytes", len(*d.OSVersion))
			}
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	f.Add([]byte(`{"u":{"name":"n","config":{"A":"1"},"apps":{"a":{"id":1,"releases":{"c":{"id":2,"services":{"s":{"id":1,"image_id":2,"image":"i"}}}}}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := wire.ParseTarget(body, "u")
		if err != nil {
			return
		}
		for _, a := range d.Apps {
			if len(a.Releases) > 1 {
				t.Error("more than one release came through")
			}
		}
	})
}

func FuzzParseLogLine(f *testing.F) {
	f.Add([]byte(`{"message":"m","timestamp":1,"serviceId":3}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if l, ok, _ := wire.ParseLogLine(line); ok && len(l.Message) > wire.MaxLogMessage {
			t.Errorf("an over-long message came through: %d bytes", len(l.Message))
		}
	})
}
