package wire_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/wire"
)

func TestATargetForAnOldSupervisorGoesByIDs(t *testing.T) {
	stopped := false
	got, err := wire.LegacyTarget(wire.DeviceTarget{
		Name: "calm-otter", Config: map[string]string{"RESIN_SUPERVISOR_POLL_INTERVAL": "60000"},
		Apps: map[string]wire.App{
			"host": {ID: 1, Name: "host", IsHost: true, Class: "app", Releases: map[string]wire.Release{}},
			"sup":  {ID: 2, Name: "supervisor", Class: "app", Releases: map[string]wire.Release{}},
			"f": {ID: 5, Name: "porch", Class: "fleet", Releases: map[string]wire.Release{"abc": {
				ID: 9, Volumes: map[string]json.RawMessage{"data": json.RawMessage(`{}`)}, Networks: map[string]json.RawMessage{},
				Services: map[string]wire.Service{
					"main": {ID: 11, ImageID: 22, Image: "h/v2/1@sha256:2", Environment: map[string]string{"A": "b"}, Labels: map[string]string{"l": "1"},
						Composition: json.RawMessage(`{"restart":"always","image":"not this one"}`), Contract: json.RawMessage(`{"type":"sw.container"}`)},
					"side": {ID: 12, ImageID: 23, Image: "h/v2/3", Running: &stopped},
				},
			}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var have, want any
	if err := json.Unmarshal(got, &have); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"dependent":{"apps":{},"devices":{}},"local":{"name":"calm-otter","config":{"RESIN_SUPERVISOR_POLL_INTERVAL":"60000"},
		"apps":{"5":{"name":"porch","commit":"abc","releaseId":9,"volumes":{"data":{}},"networks":{},"services":{
			"11":{"imageId":22,"serviceName":"main","image":"h/v2/1@sha256:2","running":true,"environment":{"A":"b"},"labels":{"l":"1"},
				"restart":"always","contract":{"type":"sw.container"}},
			"12":{"imageId":23,"serviceName":"side","image":"h/v2/3","running":false,"environment":null,"labels":null}}}}}}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	if _, err := wire.LegacyTarget(wire.DeviceTarget{Apps: map[string]wire.App{"f": {Class: "fleet", Releases: map[string]wire.Release{
		"c": {Services: map[string]wire.Service{"main": {Composition: json.RawMessage(`[]`)}}}}}}}); err == nil {
		t.Error("a composition that is none is no error")
	}
}

func TestAnOldSupervisorsReportIsUnderstood(t *testing.T) {
	r, err := wire.ParseLegacyReport(strings.NewReader(`{"local":{"status":"Idle","api_port":48484,"supervisor_version":"10.6.27","provisioning_progress":null,
		"is_on__commit":"abc","apps":{"5":{"services":{"22":{"status":"Running","releaseId":9,"download_progress":null},"23":{"status":"Downloading","releaseId":10,"download_progress":140}}}}},
		"dependent":{"apps":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if *r.Status != "Idle" || *r.APIPort != 48484 || *r.Commit != "abc" || !r.AppsSaid || !r.Provisioning.Said || len(r.Installs) != 2 {
		t.Errorf("%+v", r)
	}
	for _, i := range r.Installs {
		if i.Image == 23 && (i.Release != 10 || i.Status != "Downloading" || *i.Progress != 100) || i.Image == 22 && (i.Release != 9 || i.Progress != nil) {
			t.Errorf("%+v", i)
		}
	}
	r, err = wire.ParseLegacyReport(strings.NewReader(`{"local":{"apps":[{"services":{"7":{"status":"x","releaseId":1}}}],"cpu_usage":5}}`))
	if err != nil || !r.AppsSaid || len(r.Installs) != 1 || *r.CPUUsage != 5 {
		t.Errorf("%+v %v", r, err)
	}
	if r, err := wire.ParseLegacyReport(strings.NewReader(`{}`)); err != nil || r.AppsSaid || r.Commit != nil {
		t.Errorf("nothing said: %+v %v", r, err)
	}
	for name, body := range map[string]string{
		"no JSON": `{`, "a list": `{"local":[]}`, "a bad field": `{"local":{"api_port":"x"}}`, "bad apps": `{"local":{"apps":5}}`,
		"an image by name": `{"local":{"apps":{"1":{"services":{"main":{}}}}}}`, "too long": `{"local":{"status":"` + strings.Repeat("a", wire.MaxReport) + `"}}`,
	} {
		if r, err := wire.ParseLegacyReport(strings.NewReader(body)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestTagsAreValuesOrNothing(t *testing.T) {
	tags, err := wire.ParseTags(strings.NewReader(`{"u":{"a":"b","c":null}}`))
	if err != nil || *tags["u"]["a"] != "b" || tags["u"]["c"] != nil || len(tags["u"]) != 2 {
		t.Errorf("%v %v", tags, err)
	}
	for _, body := range []string{``, `{}`, `[]`, `{"u":{"a":1}}`, `{"u":["a"]}`, `{"u":{"a":"` + strings.Repeat("b", wire.MaxReport) + `"}}`} {
		if tags, err := wire.ParseTags(strings.NewReader(body)); err == nil {
			t.Errorf("%.50s: %v", body, tags)
		}
	}
}

func TestAtMostTenLogLinesComeAtATime(t *testing.T) {
	line := `{"message":"m","timestamp":1}`
	lines := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(line+",", n), ",") + "]" }
	for n, want := range map[int]bool{0: true, 1: true, 10: true, 11: false} {
		got, err := wire.ParseLogLines(strings.NewReader(lines(n)))
		if (err == nil) != want || err == nil && len(got) != n {
			t.Errorf("%d lines: %d, %v", n, len(got), err)
		}
	}
	got, err := wire.ParseLogLines(strings.NewReader(fmt.Sprintf(`[%s,5,null,{"message":"x"},{"message":"x","timestamp":1,"uuid":"u"}]`, line)))
	if err != nil || len(got) != 1 {
		t.Errorf("%v %v", got, err)
	}
	if got, err := wire.ParseLogLines(strings.NewReader("{}")); err == nil {
		t.Errorf("no list: %v", got)
	}
}

func FuzzWhatOldSupervisorsSend(f *testing.F) {
	f.Add(`{"local":{"apps":{"1":{"services":{"2":{"status":"x","releaseId":3}}}}}}`)
	f.Add(`{"u":{"k":"v","n":null}}`)
	f.Add(`[{"message":"m","timestamp":1}]`)
	f.Fuzz(func(t *testing.T, body string) {
		if r, err := wire.ParseLegacyReport(strings.NewReader(body)); err == nil {
			for _, i := range r.Installs {
				if len(i.Status) > 50 || i.Progress != nil && (*i.Progress < 0 || *i.Progress > 100) {
					t.Errorf("%q: %+v", body, i)
				}
			}
		}
		if lines, err := wire.ParseLogLines(strings.NewReader(body)); err == nil && len(lines) > 10 {
			t.Errorf("%d lines", len(lines))
		}
		if tags, err := wire.ParseTags(strings.NewReader(body)); err == nil && len(tags) == 0 {
			t.Error("tags of nobody")
		}
	})
}
