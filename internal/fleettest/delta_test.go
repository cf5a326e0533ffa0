package fleettest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleettest"
)

// curl sends a request of a device and returns status, header and body.
func curl(t *testing.T, method, url, key, body string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b
}

// A device that does no more than speak: no engine is wanted.
func TestTheDeltaOfAPushIsMadeAndTheDeviceGetsItByRanges(t *testing.T) {
	s := fleettest.Start(t, bin, "unix:///nowhere")
	var key struct {
		Key string `json:"key"`
	}
	s.JSON(&key, "provisioning-key", "create", "porch")
	uuid, own := strings.Repeat("ab", 16), strings.Repeat("k", 32)
	if status, _, b := curl(t, "POST", s.URL+"/device/register", key.Key, fmt.Sprintf(
		`{"application":%s,"uuid":%q,"device_type":%q,"api_key":%q}`, s.FleetID, uuid, fleettest.DeviceType, own)); status != 201 {
		t.Fatalf("register: %d %s", status, b)
	}
	// target is the app a device is to run, and the image of its one service.
	target := func() (app, commit, image string) {
		t.Helper()
		status, _, b := curl(t, "GET", s.URL+"/device/v3/"+uuid+"/state", own, "")
		var state map[string]struct {
			Apps map[string]struct {
				Releases map[string]struct {
					Services map[string]struct{ Image string }
				}
			}
		}
		if err := json.Unmarshal(b, &state); err != nil || status != 200 {
			t.Fatalf("state: %d %s", status, b)
		}
		for app, a := range state[uuid].Apps {
			for commit, r := range a.Releases {
				return app, commit, r.Services["main"].Image
			}
		}
		t.Fatalf("no release in %s", b)
		return "", "", ""
	}
	p := s.Project(goModule("version one", 0))
	p.Push()
	app, commit, before := target()
	report := func(app, commit, image string) {
		t.Helper()
		body := fmt.Sprintf(`{%q:{"apps":{%q:{"release_uuid":%q,"releases":{%q:{"services":{"main":{"image":%q,"status":"Running"}}}}}}}}`, uuid, app, commit, commit, image)
		if status, _, b := curl(t, "PATCH", s.URL+"/device/v3/state", own, body); status != 200 {
			t.Fatalf("report: %d %s", status, b)
		}
	}
	report(app, commit, before)
	p.Commit(goModule("version two!", 0))
	pushed := make(chan string, 1)
	go func() {
		out, err := p.TryPush(nil)
		pushed <- fmt.Sprint(out, err)
	}()
	var after string
	fleettest.Eventually(t, "the target is the second release", func() error {
		if _, commit, after = target(); after == before {
			return errors.New("it is the first")
		}
		return nil
	})

	repository := func(image string) string {
		_, name, _ := strings.Cut(image, "/")
		name, _, _ = strings.Cut(name, "@")
		return name
	}
	var token struct{ Token string }
	status, _, b := curl(t, "GET", s.URL+"/auth/v1/token?service="+strings.TrimPrefix(s.URL, "http://")+"&scope=repository:"+repository(before)+
		":pull&scope=repository:"+repository(after)+":pull", own, "")
	if err := json.Unmarshal(b, &token); err != nil || status != 200 {
		t.Fatalf("token: %d %s", status, b)
	}
	var d struct {
		Name, Blob, From, To string
		Size                 int
	}
	fleettest.Eventually(t, "the delta is made", func() error {
		status, header, b := curl(t, "GET", s.URL+"/api/v3/delta?src="+before+"&dest="+after, token.Token, "", "Accept", "application/vnd.dunlin.delta.v1+json")
		if status != 200 {
			return fmt.Errorf("%d %s %s", status, header.Get("Retry-After"), b)
		}
		return json.Unmarshal(b, &d)
	})
	var rows []struct {
		ID       int64  `json:"id"`
		Status   string `json:"status"`
		Size     string `json:"size"`
		Replaces string `json:"replaced_size"`
		Used     int64  `json:"use_count"`
	}
	s.JSON(&rows, "delta", "list", "porch")
	if len(rows) != 1 || rows[0].Status != "ready" || rows[0].Size != fmt.Sprint(d.Size) {
		t.Errorf("listed are %+v, and the delta has %d bytes", rows, d.Size)
	}
	t.Logf("%d bytes instead of %s", d.Size, rows[0].Replaces)

	var got bytes.Buffer
	half := d.Size / 2
	for _, part := range []string{fmt.Sprintf("bytes=0-%d", half-1), fmt.Sprintf("bytes=%d-", half)} {
		status, header, b := curl(t, "GET", s.URL+"/v2/"+repository(after)+"/blobs/"+d.Blob, token.Token, "", "Range", part)
		if status != 206 {
			t.Fatalf("%s: %d %s", part, status, header)
		}
		got.Write(b)
	}
	if sum := fmt.Sprintf("sha256:%x", sha256.Sum256(got.Bytes())); sum != d.Blob {
		t.Errorf("what was fetched is %s, not %s", sum, d.Blob)
	}
	_, _, metrics := curl(t, "GET", s.URL+"/metrics", s.Administrator(), "")
	for _, want := range []string{`dunlin_delta_jobs{status="ready"} 1`, `dunlin_delta_ended_total{status="ready"} 1`, "dunlin_delta_saved_bytes_total ",
		fmt.Sprintf("dunlin_delta_kept_bytes %d", d.Size)} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("%q is missing in the metrics", want)
		}
	}
	if strings.Contains(string(metrics), "dunlin_delta_saved_bytes_total 0\n") {
		t.Error("nothing was saved")
	}
	// The pusher is told while the push is followed, which ends when the device runs the release.
	fleettest.Eventually(t, "the push has ended", func() error {
		report(app, commit, after)
		select {
		case out := <-pushed:
			want(t, out, "r0 → r1: ", fmt.Sprintf("%d B instead of ", d.Size), ", 1 device", "running on 1 of 1")
			return nil
		default:
			return errors.New("it is followed still")
		}
	})
	// A stock supervisor's deltas are another format.
	if status, _, b := curl(t, "GET", s.URL+"/api/v3/delta?src="+before+"&dest="+after, token.Token, ""); status == 401 || status == 500 {
		t.Errorf("a stock supervisor is answered %d %s", status, b)
	}
	// The server that was killed knows it still, and has no file of its making.
	s.Kill()
	s.Restart()
	if status, _, b := curl(t, "GET", s.URL+"/api/v3/delta?src="+before+"&dest="+after, token.Token, "", "Accept", "application/vnd.dunlin.delta.v1+json"); status != 200 {
		t.Errorf("after a restart: %d %s", status, b)
	}
	if left, err := filepath.Glob(filepath.Join(s.DataFolder(), "deltas", "*")); err != nil || len(left) > 0 {
		t.Errorf("left are %s, %v", left, err)
	}
	s.CLI("delta", "rm", fmt.Sprint(rows[0].ID))
	if status, _, _ := curl(t, "GET", s.URL+"/v2/"+repository(after)+"/blobs/"+d.Blob, token.Token, ""); status != 404 && status != 200 {
		t.Errorf("the blob of a delta that was removed: %d", status)
	}
}
