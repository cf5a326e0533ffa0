package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// PushOptions say where a folder is pushed to and how it is built. Only Fleet must be set.
type PushOptions struct {
	Fleet      string // slug: org/fleet
	Draft      bool   // no device takes the release until it is final
	NoCache    bool   // every step is built again
	Detached   bool   // the push ends when the build has begun
	Dockerfile string // path in the folder of the Dockerfile to use; "" lets the server look
	Rollout    bool   // messages go on after the build, until the devices have the release

	// Of a folder that is in a git repository.
	Commit       string   // 40 hex, which the folder holds unchanged; "" if it does not
	Roots        []string // root commits of the history, the first parents' root first, 40 hex each; at most 50
	ForceHistory bool     // though it has none of them in common with what was pushed before
}

func (o PushOptions) encode() string {
	q := url.Values{
		"slug": {o.Fleet}, "dockerfilePath": {o.Dockerfile}, "emulated": {"false"}, "nocache": {strconv.FormatBool(o.NoCache)},
		"headless": {strconv.FormatBool(o.Detached)}, "isdraft": {strconv.FormatBool(o.Draft)},
	}
	if o.Rollout {
		q.Set("rollout", "true")
	}
	if o.Commit != "" {
		q.Set("gitcommit", o.Commit)
	}
	if len(o.Roots) > 0 {
		q["gitroot"] = o.Roots
	}
	if o.ForceHistory {
		q.Set("forcehistory", "true")
	}
	return q.Encode()
}

// PushMessage is something that the server says about a push. One of its fields is set.
type PushMessage struct {
	Release int64  // the release has begun; from here on it can be cancelled by its id
	Line    string // of the build or of the rollout
}

// BuildError says that a release was begun and came to nothing.
type BuildError struct {
	Release int64
	Message string
	Hint    string // what to do about it, if the server says so
}

func (e *BuildError) Error() string { return e.Message }

// Push sends the tar archive of a folder, gzipped or not, and calls each for what the server says about it, in order. It
// returns the release when the build has ended, and with Rollout when the rollout has; with Detached, as soon as it
// has begun. A build that fails is a [*BuildError]; what the server refuses to build is an [*Error]. When ctx ends, Push
// does, and the build goes on: [Client.CancelRelease] ends it. source is read from another goroutine until Push returns.
func (c *Client) Push(ctx context.Context, o PushOptions, source io.Reader, each func(PushMessage)) (release int64, err error) {
	resp, err := c.send(ctx, http.MethodPost, "/v3/build", o.encode(), source, "application/gzip")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() // only read
	if resp.StatusCode >= 300 {
		return 0, refusal(resp)
	}
	if o.Detached {
		return c.started(resp.Body)
	}
	answer := json.NewDecoder(resp.Body)
	if t, err := answer.Token(); err != nil || t != json.Delim('[') {
		return 0, fmt.Errorf("push to %s: %s did not answer as a Dunlin server does", o.Fleet, c.URL)
	}
	var failed *BuildError
	for answer.More() {
		var m struct {
			Message, Type, Resource string
			IsError                 bool
			Value                   json.RawMessage
		}
		if err := answer.Decode(&m); err != nil {
			return release, c.brokenOff(ctx, release, err)
		}
		switch {
		case m.Type == "metadata" && m.Resource == "buildLogId":
			if err := json.Unmarshal(m.Value, &release); err != nil {
				return 0, fmt.Errorf("push to %s: %s did not answer as a Dunlin server does: %w", o.Fleet, c.URL, err)
			}
			each(PushMessage{Release: release})
		case m.Type == "metadata": // of terminals
		case m.IsError:
			failed = &BuildError{Release: release, Message: strings.TrimPrefix(m.Message, "error: ")}
		case failed != nil:
			if hint, ok := strings.CutPrefix(m.Message, "hint: "); ok {
				failed.Hint = hint
			}
		default:
			each(PushMessage{Line: strings.TrimRight(m.Message, "\n")})
		}
	}
	if t, err := answer.Token(); err != nil || t != json.Delim(']') {
		return release, c.brokenOff(ctx, release, err)
	}
	if failed != nil {
		return release, failed
	}
	return release, nil
}

// started reads the answer to a push that does not wait.
func (c *Client) started(body io.Reader) (release int64, err error) {
	var s struct {
		Started        bool
		ReleaseID      int64
		Error, Message string
	}
	if err := json.NewDecoder(io.LimitReader(body, maxErrorBody)).Decode(&s); err != nil {
		return 0, fmt.Errorf("%s did not answer as a Dunlin server does: %w", c.URL, err)
	}
	if !s.Started {
		return 0, &BuildError{Message: strings.TrimSpace(s.Error + " " + s.Message)}
	}
	return s.ReleaseID, nil
}

// brokenOff is the end of a stream before its end.
func (c *Client) brokenOff(ctx context.Context, release int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if release == 0 {
		return c.unreachable(ctx, err)
	}
	return fmt.Errorf("the connection broke; release #%d is built without it: %w", release, c.unreachable(ctx, err))
}

// CancelRelease ends the build of a release. One that has ended stays as it is, and that is no error.
func (c *Client) CancelRelease(ctx context.Context, id int64) error {
	return c.Patch(ctx, Key("release", id), Query{Filter: "status eq 'running'"}, map[string]any{"status": "cancelled"})
}
