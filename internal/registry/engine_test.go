package registry_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// engine is a real container engine behind its socket.
type engine struct {
	t    *testing.T
	http http.Client
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	address := os.Getenv("DUNLIN_TEST_ENGINE")
	if address == "" {
		address = "unix:///var/run/docker.sock"
	}
	e := &engine{t: t}
	path, ok := strings.CutPrefix(address, "unix://")
	err := fmt.Errorf("%s is not a unix socket", address)
	if ok {
		e.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
		t.Cleanup(e.http.CloseIdleConnections)
		var answer *http.Response
		if answer, err = e.http.Get("http://engine/_ping"); err == nil {
			answer.Body.Close()
			return e
		}
	}
	if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
		t.Fatalf("no container engine: %v", err)
	}
	t.Skipf("no container engine: %v", err)
	return nil
}

// do asks the engine, as key if there is one.
func (e *engine) do(method, path, key string, body io.Reader) error {
	e.t.Helper()
	_, err := e.ask(method, path, map[string]string{"username": "d_uuid", "password": key}, body)
	return err
}

// ask asks the engine with credentials for the registry. The answer of a push or a pull is a stream of JSON objects, one
// of which may be an error.
func (e *engine) ask(method, path string, credentials map[string]string, body io.Reader) ([]byte, error) {
	e.t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(e.t.Context()), method, "http://engine"+path, body)
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(credentials)
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(header))
	answer, err := e.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 || bytes.Contains(text, []byte(`"error"`)) {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, bytes.TrimSpace(text))
	}
	return text, nil
}

func (e *engine) remove(image string) {
	if err := e.do(http.MethodDelete, "/images/"+image+"?force=1", "", nil); err != nil && !strings.Contains(err.Error(), "404") {
		e.t.Error(err)
	}
}

// imported makes an image of one file, and removes it when the test ends.
func (e *engine) imported(repository string, content []byte) {
	e.t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: int64(len(content))}); err != nil {
		e.t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		e.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.remove(repository + ":latest") })
	if err := e.do(http.MethodPost, "/images/create?"+url.Values{"fromSrc": {"-"}, "repo": {repository}, "tag": {"latest"}}.Encode(), "", &layer); err != nil {
		e.t.Fatal(err)
	}
}

func TestARealEnginePushesWithATokenThatADeployAskedFor(t *testing.T) {
	e := newEngine(t)
	s := newServer(t, httptest.NewServer)
	local := s.host + "/" + s.running
	e.imported(local, []byte("made for "+t.Name()+" at "+s.host))
	token := func(key, repository string) string {
		t.Helper()
		// As the stock CLI asks, in the array form of its own.
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/auth/v1/token?service="+service+"&scope[0]=repository:"+repository+":pull,push", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		answer, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var a struct{ Token string }
		if err := json.NewDecoder(answer.Body).Decode(&a); err != nil || a.Token == "" {
			t.Fatalf("%s, %v", answer.Status, err)
		}
		return a.Token
	}
	push := "/images/" + local + "/push?tag=latest"
	for who, bad := range map[string]string{"eve": token(s.eve, s.running), "a token for another repository": token(s.ada, s.done), "no token": "x"} {
		if _, err := e.ask(http.MethodPost, push, map[string]string{"registrytoken": bad}, nil); err == nil {
			t.Errorf("%s pushes", who)
		}
	}
	said, err := e.ask(http.MethodPost, push, map[string]string{"registrytoken": token(s.ada, s.running)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(s.ref(s.running), s.as(s.ada)...)
	if err != nil {
		t.Fatal(err)
	}
	// The CLI takes the digest from the last line of what the engine says.
	if lines := strings.Split(strings.TrimSpace(string(said)), "\n"); !strings.Contains(lines[len(lines)-1], head.Digest.String()) {
		t.Errorf("the engine's last line is %s, the registry has %s", lines[len(lines)-1], head.Digest)
	}
}

func TestARealEnginePushesAndPullsByDigest(t *testing.T) {
	e := newEngine(t)
	s := newServer(t, httptest.NewServer)
	content := []byte("made for " + t.Name() + " at " + s.host)
	local := s.host + "/" + s.running
	e.imported(local, content)

	push := "/images/" + local + "/push?tag=latest"
	for who, key := range map[string]string{"eve": s.eve, "the fleet's device": s.porch, "a wrong key": "wrong"} {
		if err := e.do(http.MethodPost, push, key, nil); err == nil {
			t.Errorf("%s pushes", who)
		}
	}
	if err := e.do(http.MethodPost, push, s.ada, nil); err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(s.ref(s.running), s.as(s.ada)...)
	if err != nil {
		t.Fatal(err)
	}

	e.remove(local + ":latest")
	byDigest := local + "@" + head.Digest.String()
	t.Cleanup(func() { e.remove(byDigest) })
	pull := "/images/create?" + url.Values{"fromImage": {byDigest}}.Encode()
	for who, key := range map[string]string{"eve": s.eve, "eve's device": s.trap, "a wrong key": "wrong"} {
		if err := e.do(http.MethodPost, pull, key, nil); err == nil {
			t.Errorf("%s pulls", who)
		}
	}
	if err := e.do(http.MethodPost, pull, s.porch, nil); err != nil {
		t.Error(err)
	}
	if err := e.do(http.MethodGet, "/images/"+byDigest+"/json", "", nil); err != nil {
		t.Error(err)
	}
}
