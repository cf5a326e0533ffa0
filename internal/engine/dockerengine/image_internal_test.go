package dockerengine

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/api/types/jsonstream"
)

// measure is what a meter tells about a stream of messages, one a line.
func measure(stream string) []int {
	var told []int
	m := meter{tell: func(p int) { told = append(told, p) }, layers: map[string]*layer{}, last: -1}
	dec := json.NewDecoder(strings.NewReader(stream))
	for {
		var msg jsonstream.Message
		if dec.Decode(&msg) != nil {
			return told
		}
		m.add(msg)
	}
}

func TestProgressCountsLayersByTheirSize(t *testing.T) {
	got := measure(`
		{"status":"Pulling from v2/0a","id":"sha256:1f"}
		{"status":"Already exists","progressDetail":{},"id":"base"}
		{"status":"Pulling fs layer","progressDetail":{},"id":"big"}
		{"status":"Pulling fs layer","progressDetail":{},"id":"small"}
		{"status":"Downloading","progressDetail":{"current":300,"total":300},"id":"big"}
		{"status":"Downloading","progressDetail":{"current":100,"total":100},"id":"small"}
		{"status":"Download complete","progressDetail":{},"id":"small"}
		{"status":"Extracting","progressDetail":{"current":150,"total":300},"id":"big"}
		{"status":"Pull complete","progressDetail":{},"id":"big"}
		{"status":"Extracting","progressDetail":{"current":100,"total":100},"id":"small"}
		{"status":"Pull complete","progressDetail":{},"id":"small"}
		{"status":"Digest: sha256:1f"}
		{"status":"Status: Downloaded newer image"}`)
	// 150 of 300+mean; then all of 400 is down: half. Half of big is unpacked: 275 of 400; all of it: 350; then all,
	// but the image has no name yet.
	if want := []int{0, 25, 50, 68, 87, 99}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProgressNeverGoesDownWhateverAnEngineSays(t *testing.T) {
	statuses := []string{"Pulling fs layer", "Waiting", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete", "Already exists", "Retrying in 5 seconds"}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		var stream strings.Builder
		for range 40 {
			fmt.Fprintf(&stream, `{"status":%q,"id":"%d","progressDetail":{"current":%d,"total":%d,"units":%q}}`+"\n",
				statuses[r.IntN(len(statuses))], r.IntN(4), r.Int64N(2000)-500, r.Int64N(1500)-500, []string{"", "s", "bytes"}[r.IntN(3)])
		}
		got := measure(stream.String())
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("seed %d: %v does not rise", seed, got)
		}
		if slices.ContainsFunc(got, func(p int) bool { return p < 0 || p > 99 }) {
			t.Fatalf("seed %d: %v", seed, got)
		}
	}
}

func TestWhatARegistrySaysIsUnderstood(t *testing.T) {
	other := errors.New("another error")
	for text, want := range map[string]error{
		"unauthorized: authentication required":                                                                    engine.ErrDenied,
		"Get \"http://h/v2/x\": no basic auth credentials":                                                         engine.ErrDenied,
		"Head \"https://h/v2/x\": unauthorized: incorrect username or password":                                    engine.ErrDenied,
		"denied: requested access to the resource is denied":                                                       engine.ErrDenied,
		"Error response from daemon: denied: this device may not pull":                                             engine.ErrDenied,
		"pull access denied for h/x, repository does not exist or may require 'docker login'":                      engine.ErrDenied,
		"error parsing HTTP 403 response body: unexpected end of JSON input":                                       engine.ErrDenied,
		"unexpected status from HEAD request to https://h/v2/x: 403 Forbidden":                                     engine.ErrDenied,
		"manifest for h/x@sha256:1 not found: manifest unknown: manifest unknown":                                  engine.ErrNotFound,
		"repository h/x not found: does not exist or no pull access: repository name not known to registry":        engine.ErrNotFound,
		"failed to register layer: Error processing tar file(exit status 1): write /a: no space left on device":    engine.ErrDiskFull,
		"write /var/lib/docker/tmp/GetImageBlob1: no space left on device":                                         engine.ErrDiskFull,
		"write /var/lib/docker/tmp/GetImageBlob1: disk quota exceeded":                                             engine.ErrDiskFull,
		"failed to register layer: mkdir /var/lib/docker/x: permission denied":                                     other,
		"Get \"https://h/v2/\": dial tcp 10.0.0.1:443: connect: connection refused":                                other,
		"toomanyrequests: you have reached your pull rate limit":                                                   other,
		"error pulling image configuration: download failed after attempts=6: dial tcp: lookup h: no such host":    other,
		"filesystem layer verification failed for digest sha256:1":                                                 other,
		"image with reference h/x was found but does not match the specified platform: wanted linux/arm64":         other,
		"Get \"https://h/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded)": other,
	} {
		got := meaning(t.Context(), refusal(errors.New(text)))
		if got.Error() == "" || !strings.Contains(got.Error(), text) {
			t.Errorf("%q is not in %q", text, got)
		}
		for _, known := range []error{engine.ErrDenied, engine.ErrNotFound, engine.ErrDiskFull, engine.ErrUnavailable} {
			if is := errors.Is(got, known); is != (known == want) {
				t.Errorf("%q: %v is %v", text, known, is)
			}
		}
	}
	if err := refusal(fmt.Errorf("x: %w", errdefs.ErrUnauthenticated)); !errors.Is(err, engine.ErrDenied) {
		t.Error("a status 401 is not understood")
	}
	if err := refusal(fmt.Errorf("x: %w", errdefs.ErrNotFound)); !errors.Is(err, engine.ErrNotFound) {
		t.Error("a status 404 is not understood")
	}
}

func TestAReferenceHasANameAndADigest(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0a", 32)
	for ref, good := range map[string]bool{
		"hub.example:8443/v2/0123" + digest: true, "[::1]:5000/v2/0123" + digest: true, "busybox" + digest: true,
		"hub.example/v2/0123": false, "hub.example/v2/0123:latest": false, digest: false, "x" + digest + "0": false, "a/../b" + digest: false,
		"x@sha256:" + strings.Repeat("0A", 32): false, "a?b" + digest: false, "a b" + digest: false, "": false,
	} {
		if err := checkReference(ref); (err == nil) != good {
			t.Errorf("%q: %v", ref, err)
		}
	}
}
