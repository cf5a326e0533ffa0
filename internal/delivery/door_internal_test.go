package delivery

import (
	"net/http"
	"testing"
	"time"
)

func TestAServerMayAskForPatienceWithinReason(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "999999": mostPatience, "99999999999999999999": 0,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestOnlyAnAnswerThatBeginsWhereItWasAskedToIsTaken(t *testing.T) {
	for text, want := range map[string]int64{
		"bytes 100-199/200": 100, "bytes 0-0/1": 0, "": -1, "bytes */200": -1, "100-199/200": -1, "bytes x-1/2": -1, "bytes 5": -1,
	} {
		if got := rangeStart(http.Header{"Content-Range": {text}}); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestABlobIsBesideTheAPI(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		s := session{Server: Server{URL: scheme + "://api.test:8080/"}, order: Order{Image: "hub.test:5000/v2/0a@sha256:1"}}
		if got, want := s.blobURL("sha256:2"), scheme+"://hub.test:5000/v2/v2/0a/blobs/sha256:2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
