package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/client"
)

// messages are what a push says, in words.
func messages(t *testing.T, c *client.Client, o client.PushOptions) (release int64, said []string, err error) {
	t.Helper()
	release, err = c.Push(t.Context(), o, strings.NewReader("source"), func(m client.PushMessage) {
		said = append(said, fmt.Sprint(m.Release, " ", m.Line))
	})
	return release, said, err
}

const begun = `[{"type":"metadata","resource":"buildLogId","value":12}`

func TestAPushSendsTheSourceAndTellsWhatTheServerSays(t *testing.T) {
	c, asked := server(t, answer(200, begun+`,{"message":"step 1\n"},{"type":"metadata","resource":"cursor","value":"up1"}`+"\n\n"+`,{"message":"step 2","replace":true}]`))
	release, said, err := messages(t, c, client.PushOptions{Fleet: "admin/porch", Draft: true, Dockerfile: "a b", Rollout: true, Roots: []string{"r1", "r2"}})
	if err != nil || release != 12 {
		t.Errorf("release %d (%v)", release, err)
	}
	if diff := cmp.Diff([]string{"12 ", "0 step 1", "0 step 2"}, said); diff != "" {
		t.Error(diff)
	}
	want := []string{"POST /v3/build?dockerfilePath=a+b&emulated=false&gitroot=r1&gitroot=r2&headless=false&isdraft=true&nocache=false&rollout=true&slug=admin%2Fporch source"}
	if diff := cmp.Diff(want, *asked); diff != "" {
		t.Error(diff)
	}
}

func TestAPushThatComesToNothingSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		status            int
		body              string
		release           int64
		says, hint        string
		isBuild, isServer bool
	}{
		"a build that fails":        {200, begun + `,{"message":"step"},{"message":"error: no such file","isError":true},{"message":"hint: add it"}]`, 12, "no such file", "add it", true, false},
		"a refusal":                 {409, "unrelated\nhint: force it", 0, "unrelated", "force it", false, true},
		"a stream that breaks":      {200, begun + `,{"message":"step"}`, 12, "the connection broke; release #12 is built without it", "", false, false},
		"a stream cut in a word":    {200, begun + `,{"mess`, 12, "the connection broke; release #12 is built without it", "", false, false},
		"one that never began":      {200, `[`, 0, "cannot reach", "", false, false},
		"something else altogether": {200, `<html>`, 0, "did not answer as a Dunlin server does", "", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			on, _ := server(t, answer(c.status, c.body))
			release, _, err := messages(t, on, client.PushOptions{Fleet: "admin/porch"})
			if err == nil || release != c.release || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("release %d: %v", release, err)
			}
			var failed *client.BuildError
			var no *client.Error
			if errors.As(err, &failed) != c.isBuild || errors.As(err, &no) != c.isServer {
				t.Fatalf("it is a %T", err)
			}
			if failed != nil && (failed.Hint != c.hint || failed.Release != 12) || no != nil && (no.Hint != c.hint || no.Status != 409) {
				t.Errorf("%+v %+v", failed, no)
			}
		})
	}
}

func TestAPushThatNobodyWaitsForIsToldItsRelease(t *testing.T) {
	c, asked := server(t, answer(200, `{"started":true,"releaseId":7}`))
	release, said, err := messages(t, c, client.PushOptions{Fleet: "admin/porch", Detached: true})
	if err != nil || release != 7 || len(said) != 0 || !strings.Contains((*asked)[0], "headless=true") {
		t.Errorf("release %d, said %q (%v)", release, said, err)
	}
	c, _ = server(t, answer(200, `{"started":false,"error":"no","message":"room"}`))
	if _, _, err := messages(t, c, client.PushOptions{Fleet: "admin/porch", Detached: true}); err == nil || err.Error() != "no room" {
		t.Errorf("not started: %v", err)
	}
}

func TestAPushEndsWithItsContextAndCanBeCancelled(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	c, asked := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			return
		}
		_, _ = io.WriteString(w, begun)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	release, err := c.Push(ctx, client.PushOptions{Fleet: "admin/porch"}, strings.NewReader(""), func(client.PushMessage) { leave() })
	if release != 12 || !errors.Is(err, context.Canceled) {
		t.Errorf("release %d: %v", release, err)
	}
	if err := c.CancelRelease(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	want := `PATCH /v7/release(12)?$filter=status%20eq%20%27running%27 {"status":"cancelled"}`
	if diff := cmp.Diff(want, (*asked)[1]); diff != "" {
		t.Error(diff)
	}
}
