package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/client"
)

func TestEventsGoOnWhereTheStreamBroke(t *testing.T) {
	var asked []string
	answers := []string{
		"retry: 3000\n\nid: 7\ndata: {\"type\":\"start\"}\n\n: alive\nid: 8\n\nid: 9\ndata: {\"type\":\"device.online\",\"fleet\":2,\"device\":3}\n\nid: 10\ndata: {\"type\":\"cut",
		"id: 10\r\ndata: {\"type\":\"release.status\",\"release\":4,\"data\":{\"status\":\"success\"}}\r\n\r\n",
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		if len(asked) > len(answers) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, answers[len(asked)-1])
	}))
	defer srv.Close()
	var got []string
	lost := 0
	c := &client.Client{URL: srv.URL}
	err := c.Events(t.Context(), client.EventOptions{Fleets: []int64{2, 5}, Types: []string{"device", "release"}, Lost: func(error) { lost++ }}, func(e client.Event) error {
		got = append(got, fmt.Sprintf("%s %s fleet %d device %d release %d %s", e.ID, e.Type, e.Fleet, e.Device, e.Release, e.Data))
		return nil
	})
	if client.StatusOf(err) != http.StatusUnauthorized {
		t.Errorf("it ended with %v", err)
	}
	want := []string{
		"7 start fleet 0 device 0 release 0 ", "9 device.online fleet 2 device 3 release 0 ",
		`10 release.status fleet 0 device 0 release 4 {"status":"success"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if want := []string{
		"fleet=2&fleet=5&types=device%2Crelease", "fleet=2&fleet=5&lastEventId=9&types=device%2Crelease", "fleet=2&fleet=5&lastEventId=10&types=device%2Crelease",
	}; !cmp.Equal(want, asked) {
		t.Errorf("asked %q", asked)
	}
	if lost != 2 {
		t.Errorf("told of %d broken streams", lost)
	}
}

func TestWhoReadsEventsEndsThem(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("id: 1\ndata: {\"type\":\"x\"}\n\n", 3))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	enough := errors.New("enough")
	n := 0
	err := (&client.Client{URL: srv.URL}).Events(t.Context(), client.EventOptions{}, func(client.Event) error {
		if n++; n == 2 {
			return enough
		}
		return nil
	})
	if err != enough || n != 2 {
		t.Errorf("%v after %d", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = (&client.Client{URL: srv.URL}).Events(ctx, client.EventOptions{}, func(client.Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v after the context ended", err)
	}
}
