package balenatest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleettest"
)

var bin fleettest.Binaries

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "balenatest-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if bin, err = fleettest.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// caller calls the server as plain HTTP, to see what a client's command has changed.
type caller struct {
	s   *fleettest.Server
	key string
}

// user is a caller with the first user's session.
func user(t testing.TB, s *fleettest.Server) caller {
	t.Helper()
	c := caller{s: s}
	status, token := c.call(t, "POST", "/login_", map[string]string{"username": "admin", "password": fleettest.Password})
	if status != http.StatusOK {
		t.Fatalf("log in: %d %s", status, token)
	}
	c.key = string(token)
	return c
}

// call sends a request with a body of JSON, or none, and returns the answer.
func (c caller) call(t testing.TB, method, path string, body any) (int, []byte) {
	t.Helper()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, c.s.URL+path, in)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.s.HTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, text
}

// rows are the rows of a resource; the query's blanks need not be escaped.
func (c caller) rows(t testing.TB, query string) []map[string]any {
	t.Helper()
	path, options, ok := strings.Cut(query, "?")
	if ok {
		options = "?" + strings.NewReplacer("%2F", "/", "%24", "$", "%3D", "=", "%26", "&").Replace(url.QueryEscape(options))
	}
	status, text := c.call(t, "GET", "/v7/"+path+options, nil)
	var answer struct {
		D []map[string]any `json:"d"`
	}
	if status != http.StatusOK {
		t.Fatalf("GET /v7/%s: %d %s", query, status, text)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("GET /v7/%s: %v\n%s", query, err, text)
	}
	return answer.D
}

// one is the one row that a query has to find.
func (c caller) one(t testing.TB, query string) map[string]any {
	t.Helper()
	all := c.rows(t, query)
	if len(all) != 1 {
		t.Fatalf("GET /v7/%s: %d rows, should be one: %v", query, len(all), all)
	}
	return all[0]
}

// device is the row of a device.
func (c caller) device(t testing.TB, uuid string) map[string]any {
	t.Helper()
	return c.one(t, "device(uuid='"+uuid+"')")
}

// id is the number a reference or a row's id is.
func id(v any) int64 {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case map[string]any:
		if n, ok := v["__id"]; ok {
			return id(n)
		}
		return id(v["id"])
	}
	return 0
}

// program is a service that says its version, and then lives until it is asked to end.
func program(version string) string {
	return fmt.Sprintf(`package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	fmt.Println("this is %s, greeting", os.Getenv("GREETING"))
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGTERM)
	<-ask
}
`, version)
}

// project is a Go module without a Dockerfile, which the server builds without a container engine.
func project(version string) map[string]string {
	return map[string]string{
		"docker-compose.yml": "services:\n  main:\n    build: .\n",
		"go.mod":             "module example.com/service\n\ngo 1.24\n",
		"main.go":            program(version),
	}
}

// expect is call for a request whose status is known.
func (c caller) expect(t testing.TB, status int, method, path string, body any) []byte {
	t.Helper()
	got, text := c.call(t, method, path, body)
	if got != status {
		t.Fatalf("%s %s: %d, should be %d: %s", method, path, got, status, text)
	}
	return text
}
