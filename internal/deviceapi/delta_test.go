package deviceapi_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/deltajob"
	"github.com/dunlin/dunlin/internal/deviceapi"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/wire"
)

// jobs answers the door's question, as the server's wiring does.
type jobs struct{ *deltajob.Jobs }

func (j jobs) Find(ctx context.Context, q deviceapi.DeltaQuestion) (fleet.Delta, error) {
	format := map[bool]string{false: "dunlin", true: "librsync"}[q.Stock]
	return j.Jobs.Find(ctx, deltajob.Question{Source: q.Source, Target: q.Target, SourceDigest: q.SourceDigest,
		TargetDigest: q.TargetDigest, Format: format, Device: q.Device})
}

// door is a place whose fleet porch has two releases, with a device that is to go from one to the other.
type door struct {
	*place
	jobs         *deltajob.Jobs
	source, dest string // images as the device's target names them
	foreign      string // of the fleet attic
	device, eve  string // keys of devices of porch and of attic
}

func openDoor(t *testing.T) *door {
	p := open(t)
	d := &door{place: p, jobs: &deltajob.Jobs{Store: p.db, Formats: []string{"dunlin", "librsync"}, Parallel: 1}}
	server := httptest.NewServer((&deviceapi.Server{Store: p.db, Auth: p.auth, Hub: p.hub, Log: slog.New(slog.DiscardHandler), Deltas: jobs{d.jobs}}).Handler())
	t.Cleanup(server.Close)
	p.url = server.URL
	_, d.source = p.release(1, "a")
	_, d.dest = p.release(1, "b")
	_, d.foreign = p.release(2, "c")
	_, d.device = p.device(1, "d")
	_, d.eve = p.device(2, "e")
	for _, image := range []*string{&d.source, &d.dest, &d.foreign} {
		location, _, _ := strings.Cut(*image, "@")
		*image = location + "@" + value[string](p, `SELECT content_hash FROM images WHERE location = $1`, location)
	}
	return d
}

// token is a registry token that was got with a key, to pull images.
func (d *door) token(key string, images ...string) string {
	d.t.Helper()
	var scopes []string
	for _, image := range images {
		scopes = append(scopes, "scope=repository:"+repositoryOf(image)+":pull")
	}
	status, body := d.call("GET", "/auth/v1/token?service=dunlin.test&"+strings.Join(scopes, "&"), key, "")
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		d.t.Fatalf("token: %d %s", status, body)
	}
	return answer.Token
}

func repositoryOf(image string) string {
	_, repository, _ := strings.Cut(image, "/")
	repository, _, _ = strings.Cut(repository, "@")
	return repository
}

// ready is as if the delta had been made.
func (d *door) ready(format, name, blob string) {
	d.exec(`INSERT INTO deltas (created_at, modified_at, source, target, format, status, ended_at, manifest, name, blob, size, replaces, from_config, to_config)
		SELECT 1, 1, s.id, t.id, $1, 'ready', 1, 'sha256:m', $2, $3, 123, 456, 'sha256:from', 'sha256:to'
		FROM images s, images t WHERE s.repository = $4 AND t.repository = $5`, format, name, blob, repositoryOf(d.source), repositoryOf(d.dest))
}

func path(source, dest string) string { return "/api/v3/delta?src=" + source + "&dest=" + dest }

func TestADeviceIsToldWhereItsDeltaIs(t *testing.T) {
	d := openDoor(t)
	d.ready("dunlin", "@sha256:m", "sha256:b")
	d.ready("librsync", ":delta-0123456789abcdef", "")
	token := d.token(d.device, d.source, d.dest)
	location, _, _ := strings.Cut(d.dest, "@")

	status, body, header := d.ask(t.Context(), "GET", path(d.source, d.dest), token, strings.NewReader(""), "Accept", "text/plain, "+wire.DeltaAnswer+";q=1")
	var got wire.Delta
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || header.Get("Content-Type") != wire.DeltaAnswer {
		t.Fatalf("%d %s %s", status, header, body)
	}
	if want := (wire.Delta{Name: location + "@sha256:m", Blob: "sha256:b", Size: 123, From: "sha256:from", To: "sha256:to"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// A stock supervisor, which may name images without digests; the registry is as the device calls it.
	plainly := func(image string) string { name, _, _ := strings.Cut(image, "@"); return name }
	other := strings.Replace(plainly(d.dest), "dunlin.test", "registry2.porch.example:8443", 1)
	for ask, want := range map[string]string{
		path(d.source, d.dest):                               location,
		path(plainly(d.source), plainly(d.dest)):             location,
		path(plainly(d.source)+":latest", d.dest):            location,
		path(d.source, other):                                other,
		"/API/v3/delta/?dest=" + d.dest + "&src=" + d.source: location,
	} {
		status, body := d.call("GET", ask, token, "")
		if want := `{"name":"` + want + `:delta-0123456789abcdef"}`; status != 200 || strings.TrimSpace(body) != want {
			t.Errorf("%s: %d %s", ask, status, body)
		}
	}
}

func TestADeltaThatIsNotThereYetIsAskedForAgain(t *testing.T) {
	d := openDoor(t)
	token := d.token(d.device, d.source, d.dest)
	for range 2 {
		status, body, header := d.ask(t.Context(), "GET", path(d.source, d.dest), token, strings.NewReader(""), "Accept", wire.DeltaAnswer)
		if status != 504 || header.Get("Retry-After") != "5" || !strings.Contains(body, "being made") {
			t.Errorf("%d %s %s", status, header, body)
		}
	}
	if rows := value[int64](d.place, `SELECT COUNT(*) FROM deltas WHERE asked_by IS NOT NULL`); rows != 1 {
		t.Errorf("%d rows", rows)
	}
	// It came to nothing: the device fetches the image whole.
	for _, status := range []string{"useless", "failed"} {
		d.exec(`UPDATE deltas SET status = $1`, status)
		if status, body := d.call("GET", path(d.source, d.dest), token, "", "Accept", wire.DeltaAnswer); status != 404 {
			t.Errorf("%d %s", status, body)
		}
	}
	// A device that leaves, and a server that stops, hold nothing up.
	d.exec(`UPDATE deltas SET status = 'waiting'`)
	d.jobs.Wait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = jobs{d.jobs}.Find(ctx, deviceapi.DeltaQuestion{Source: repositoryOf(d.source), Target: repositoryOf(d.dest)})
	}()
	cancel()
	<-ended
}

func TestAnImageOfSomebodyElseAndOneThatIsNotThereLookAlikeToTheDoor(t *testing.T) {
	d := openDoor(t)
	d.ready("dunlin", "@sha256:m", "sha256:b")
	nowhere := "dunlin.test/v2/" + strings.Repeat("f", 32) + "@sha256:" + strings.Repeat("f", 64)
	good := d.token(d.device, d.source, d.dest, d.foreign, nowhere)
	session, err := d.auth.Login(t.Context(), "admin", "correct-horse-battery", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token, path string
		want        int
	}{
		"no token":                             {"", path(d.source, d.dest), 401},
		"what is no token":                     {"x.y.z", path(d.source, d.dest), 401},
		"the device's key":                     {d.device, path(d.source, d.dest), 401},
		"a session":                            {session, path(d.source, d.dest), 401},
		"a token for the source alone":         {d.token(d.device, d.source), path(d.source, d.dest), 401},
		"a token for the destination alone":    {d.token(d.device, d.dest), path(d.source, d.dest), 404},
		"a token for nothing":                  {d.token(d.device), path(d.source, d.dest), 401},
		"another tenant's device":              {d.token(d.eve, d.source, d.dest), path(d.source, d.dest), 401},
		"another tenant's destination":         {good, path(d.source, d.foreign), 401},
		"a destination that is not there":      {good, path(d.source, nowhere), 401},
		"another tenant's source":              {good, path(d.foreign, d.dest), 404},
		"a source that is not there":           {good, path(nowhere, d.dest), 404},
		"no images":                            {good, "/api/v3/delta", 400},
		"what are no images":                   {good, path("alpine", "alpine:3"), 400},
		"an image of a path that leads astray": {good, path(d.source, "dunlin.test/v2/../../x"), 400},
		"all in order":                         {good, path(d.source, d.dest), 200},
	} {
		status, body := d.call("GET", c.path, c.token, "", "Accept", wire.DeltaAnswer)
		if status != c.want || status != 200 && strings.Contains(body, "blob") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	one, first := d.call("GET", path(d.foreign, d.dest), good, "", "Accept", wire.DeltaAnswer)
	two, second := d.call("GET", path(nowhere, d.dest), good, "", "Accept", wire.DeltaAnswer)
	if one != two || first != second {
		t.Errorf("%d %q is not %d %q", one, first, two, second)
	}
	// A token goes with the key it was got with.
	d.exec(`DELETE FROM api_keys WHERE key_hash = $1`, auth.HashKey(d.device))
	if status, body := d.call("GET", path(d.source, d.dest), good, "", "Accept", wire.DeltaAnswer); status != 401 {
		t.Errorf("after the device's key was revoked: %d %s", status, body)
	}
}

func TestAServerWithoutDeltasHasNone(t *testing.T) {
	p := open(t)
	_, image := p.release(1, "a")
	_, key := p.device(1, "d")
	d := &door{place: p}
	if status, body := p.call("GET", path(image, image), d.token(key, image), ""); status != 404 {
		t.Errorf("%d %s", status, body)
	}
}
