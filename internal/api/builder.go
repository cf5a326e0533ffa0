package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/release"
)

const (
	maxUpload     = 1 << 30          // bytes of a source as it travels; what is in it is bounded when it is unpacked
	uploadSilence = time.Minute      // between two pieces of a source, and for a client to read a line
	fetchTime     = 10 * time.Minute // for a source that is fetched by its url
	rolloutWatch  = 10 * time.Minute // how long a push follows the devices
	maxRoots      = 50               // root commits that a push may name
)

// Builder makes releases of source; release.Pipeline is one.
type Builder interface {
	// Check is what Push and Start refuse whatever the source holds, before it is sent.
	Check(ctx context.Context, p release.Push) error
	// Receive reads an archive to its end and keeps it; with flatten, without the one folder it is in.
	Receive(r io.Reader, flatten bool) (*release.Source, error)
	// Push makes a release and writes about it until it has ended. It goes on when ctx ends once p.Begun was called.
	Push(ctx context.Context, p release.Push, out io.Writer) (fleet.Release, error)
	// Start begins a release and returns it while it is being built.
	Start(ctx context.Context, p release.Push) (fleet.Release, error)
	// Rollout writes how devices take a release until they have it or ctx ends.
	Rollout(ctx context.Context, r fleet.Release, out io.Writer) error
}

// build takes the source of a folder and builds it (protocol §5.1). Everything up to the release's beginning is told by
// the status; what follows comes as the elements of one JSON array. The client that goes away cancels nothing: whoever
// means to cancel says so to the release, as the stock CLI does on Ctrl-C.
//
// Beyond balena's, these parameters say what a Dunlin client knows of its folder: gitcommit, the commit that it holds
// unchanged; gitroot, the root commits of its history, as often as there are; forcehistory; and rollout, which lets the
// stream go on with the devices after the build.
func (a *API) build(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	q := r.URL.Query()
	p, err := a.wantedPush(r.Context(), q, actor)
	if err != nil {
		if r.Header.Get("Expect") == "" { // who asks first has sent nothing yet
			drain(w, r)
		}
		return err
	}
	if p.Source, err = a.upload(w, r); err != nil {
		return err
	}
	defer a.discard(p.Source)
	p.Received = p.Source.Took
	if yes(q, "headless") {
		begun, err := a.Builder.Start(r.Context(), p)
		if err != nil {
			return err
		}
		return show(w, started{Started: true, Release: begun.ID})
	}
	s := a.stream(w)
	defer s.close()
	p.Begun = func(begun fleet.Release) {
		s.send(element{Type: "metadata", Resource: "buildLogId", Value: begun.ID})
	}
	made, err := a.Builder.Push(r.Context(), p, s)
	switch {
	case err != nil && !s.begun():
		return err
	case err != nil:
		s.fail(err)
	case yes(q, "rollout"):
		ctx, cancel := context.WithTimeout(r.Context(), rolloutWatch)
		defer cancel()
		if err := a.Builder.Rollout(ctx, made, s); err != nil && ctx.Err() == nil {
			a.log().Warn("rollout not shown", "fleet", p.Fleet, "err", err)
		}
	}
	return nil
}

// buildFromURL fetches the source by a url and builds it (protocol §5.1, 6).
func (a *API) buildFromURL(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	q := r.URL.Query()
	var from struct {
		URL     string `json:"url"`
		Flatten bool   `json:"shouldFlatten"`
	}
	if err := decode(r, &from); err != nil {
		return err
	}
	q.Set("slug", q.Get("owner")+"/"+q.Get("app"))
	p, err := a.wantedPush(r.Context(), q, actor)
	if err != nil {
		return err
	}
	if from.URL == "" {
		return fault.New(fault.Invalid, "url is missing")
	}
	ctx, cancel := context.WithTimeout(r.Context(), fetchTime)
	defer cancel()
	body, err := a.Fetch(ctx, from.URL)
	if err != nil {
		return a.notStarted(w, err)
	}
	p.Source, err = a.Builder.Receive(bounded(body), from.Flatten)
	if err = errors.Join(err, body.Close()); err != nil {
		if p.Source != nil {
			a.discard(p.Source)
		}
		return a.notStarted(w, err)
	}
	defer a.discard(p.Source)
	p.Received = p.Source.Took
	begun, err := a.Builder.Start(r.Context(), p)
	if err != nil {
		return a.notStarted(w, err)
	}
	return show(w, started{Started: true, Release: begun.ID})
}

// wantedPush is what a request says about a push, and whether it may.
func (a *API) wantedPush(ctx context.Context, q url.Values, actor fleet.Actor) (p release.Push, err error) {
	if actor.Kind == fleet.Nobody {
		return p, unauthorized()
	}
	f, err := a.Auth.Fleet(ctx, actor, q.Get("slug"))
	if err == nil {
		err = a.Auth.MayPush(ctx, actor, f.ID, true)
	}
	if err != nil {
		return p, err
	}
	p = release.Push{
		Fleet: f.ID, Actor: actor, Draft: yes(q, "isdraft"), NoCache: yes(q, "nocache"), ForceHistory: yes(q, "forcehistory"),
		GitCommit: q.Get("gitcommit"), Roots: q["gitroot"],
	}
	if name := strings.ReplaceAll(q.Get("dockerfilePath"), `\`, "/"); name != "" {
		p.Dockerfile = path.Clean(name)
		if len(name) > 1000 || path.IsAbs(name) || p.Dockerfile == "." || p.Dockerfile == ".." || strings.HasPrefix(p.Dockerfile, "../") {
			return p, fault.New(fault.Invalid, "dockerfilePath is outside the source").WithHint("give a path below the folder that is pushed")
		}
	}
	if len(p.Roots) > maxRoots {
		return p, fault.Newf(fault.Invalid, "more than %d root commits", maxRoots)
	}
	if p.GitCommit != "" && !isCommit(p.GitCommit) || slices.ContainsFunc(p.Roots, func(c string) bool { return !isCommit(c) }) {
		return p, fault.New(fault.Invalid, "gitcommit and gitroot are commits of 40 hexadecimal digits")
	}
	return p, a.Builder.Check(ctx, p)
}

func isCommit(c string) bool { return len(c) == 40 && strings.Trim(c, "0123456789abcdef") == "" }

// yes reads a parameter that is true or false; the CLI sends all of them, always.
func yes(q url.Values, name string) bool {
	v, err := strconv.ParseBool(q.Get(name))
	return err == nil && v
}

// upload receives the source that a request carries.
func (a *API) upload(w http.ResponseWriter, r *http.Request) (*release.Source, error) {
	if r.ContentLength > maxUpload {
		return nil, tooLarge()
	}
	control := http.NewResponseController(w)
	source, err := a.Builder.Receive(bounded(patient{r.Body, control}), false)
	_ = control.SetReadDeadline(time.Time{}) // the connection is watched from here on, for as long as the build takes
	if err != nil {
		drain(w, r)
	}
	return source, err
}

func (a *API) discard(s *release.Source) {
	if err := s.Discard(); err != nil {
		a.log().Warn("source of a push not removed", "err", err)
	}
}

// patient is a body whose sender may be slow, but not silent.
type patient struct {
	body    io.Reader
	control *http.ResponseController
}

func (p patient) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(uploadSilence)) // a test's recorder has no deadline
	return p.body.Read(b)
}

// bounded reads at most maxUpload bytes.
func bounded(r io.Reader) io.Reader { return &bound{r: r, left: maxUpload} }

type bound struct {
	r    io.Reader
	left int64
}

func (b *bound) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, tooLarge()
	}
	return n, err
}

func tooLarge() error {
	return fault.Newf(fault.TooLarge, "the source is over %d MB", maxUpload>>20).
		WithHint("leave generated files and dependencies out of it, with a .dockerignore")
}

// drain takes what a client that is to be refused is still sending, for a moment: one that is cut off while it writes
// does not read why.
func drain(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(5 * time.Second)) // as above
	_, _ = io.CopyN(io.Discard, r.Body, 64<<20)
	_ = control.SetReadDeadline(time.Time{})
}

// started is the answer to who does not wait for the build.
type started struct {
	Started bool   `json:"started"`
	Release int64  `json:"releaseId,omitempty"`
	Error   string `json:"error,omitempty"`
	Message string `json:"message,omitempty"`
}

// notStarted answers in the shape in which the SDK reads why nothing was built.
func (a *API) notStarted(w http.ResponseWriter, err error) error {
	kind := fault.KindOf(err)
	if kind == fault.Internal || kind == fault.Unavailable {
		return err
	}
	status := statuses[kind]
	if kind == fault.Invalid {
		status = http.StatusOK // the request was understood; what it points to is no source
	}
	body, err := json.Marshal(started{Error: kind.String(), Message: explained(err)})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}
