package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/wire"
)

func (s *server) write(device string, messages ...string) {
	s.t.Helper()
	var lines []wire.LogLine
	for i, m := range messages {
		lines = append(lines, wire.LogLine{Message: m, Timestamp: int64(1000 + i)})
	}
	if err := s.logs.Append(s.t.Context(), device, lines); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) history(uuid, query string) (messages []string) {
	s.t.Helper()
	var lines []wire.LogLine
	if err := json.Unmarshal(s.want(200, s.token, "GET", "/device/v2/"+uuid+"/logs"+query, ""), &lines); err != nil {
		s.t.Fatal(err)
	}
	for _, l := range lines {
		messages = append(messages, l.Message)
	}
	return messages
}

func TestTheHistoryOfALogIsOldestFirstAndBounded(t *testing.T) {
	s := newServer(t)
	d, _ := s.device(s.fleet("porch"), "")
	if got := string(s.want(200, s.token, "GET", "/device/v2/"+d.UUID+"/logs?", "")); got != "[]" {
		t.Errorf("an empty log is %s", got)
	}
	s.write(d.UUID, "one", "two", "three")
	for query, want := range map[string][]string{
		"?":                           {"one", "two", "three"},
		"/?count=2":                   {"two", "three"},
		"?count=all":                  {"one", "two", "three"},
		"?count=0":                    nil,
		"?start=99999999999999":       nil,
		"?start=2001-01-01T00:00:00Z": {"one", "two", "three"},
	} {
		if diff := cmp.Diff(want, s.history(d.UUID, query)); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	for _, query := range []string{"?count=-1", "?count=x", "?start=yesterday"} {
		s.want(400, s.token, "GET", "/device/v2/"+d.UUID+"/logs"+query, "")
	}
}

func TestALogIsReadByItsUsersOnly(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	d, key := s.device(id, "")
	s.write(d.UUID, "secret")
	_, other := s.newUser("globex")
	_, second := s.device(id, "")
	provisioning := s.key(s.token, fmt.Sprintf("/application/%d/generate-api-key", id), "")
	for name, c := range map[string]struct {
		token, uuid string
		status      int
	}{
		"another tenant":     {other, d.UUID, 404},
		"no device":          {s.token, "00000000000000000000000000000000", 404},
		"no uuid":            {s.token, "..%2f..%2fetc", 404},
		"the device itself":  {key, d.UUID, 403},
		"the second device":  {second, d.UUID, 403},
		"a provisioning key": {provisioning, d.UUID, 403},
		"nobody":             {"", d.UUID, 401},
	} {
		for _, query := range []string{"", "?stream=1&count=all"} {
			if resp, answer := s.send(c.token, "GET", "/device/v2/"+c.uuid+"/logs"+query, ""); resp.StatusCode != c.status {
				t.Errorf("%s%s: %d %s, want %d", name, query, resp.StatusCode, answer, c.status)
			}
		}
	}
}

func TestAStreamHasHistoryThenEveryNewLineAndSignsOfLife(t *testing.T) {
	s := newServer(t)
	d, _ := s.device(s.fleet("porch"), "")
	s.write(d.UUID, "old", "older than new")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/device/v2/"+d.UUID+"/logs?count=1&stream=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "application/x-ndjson" {
		t.Fatalf("%d %s", resp.StatusCode, got)
	}
	lines := bufio.NewScanner(resp.Body)
	beats := 0
	next := func() (l wire.LogLine) {
		t.Helper()
		for lines.Scan() {
			if len(lines.Bytes()) == 0 {
				beats++
				continue
			}
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				t.Fatalf("%v in %q", err, lines.Text())
			}
			return l
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return l
	}
	if l := next(); l.Message != "older than new" || l.CreatedAt == 0 {
		t.Errorf("the history is %+v", l)
	}
	for beats == 0 { // the test's own deadline is the bound
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		if len(lines.Bytes()) == 0 {
			beats++
		}
	}
	for i := range 3 {
		s.write(d.UUID, fmt.Sprint("new ", i))
		if l := next(); l.Message != fmt.Sprint("new ", i) {
			t.Errorf("the next line is %+v", l)
		}
	}
	cancel()
	if lines.Scan() && len(lines.Bytes()) > 0 {
		t.Errorf("after the end there is %q", lines.Text())
	}
}
