package api_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/dunlin/dunlin/internal/api"
	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/release"
	"github.com/dunlin/dunlin/internal/store"
)

// builder is a server that builds, with a fleet acme/porch of amd64 and a registry that can be made to hold pushes back.
type builder struct {
	*server
	url      string
	door     *httptest.Server
	pipeline *release.Pipeline
	registry string // HOST:PORT
	dir      string // of everything that a server keeps beside its database
	porch    int64

	mu   sync.Mutex
	gate func() // called before the registry takes a manifest; nil lets it through
}

func newBuilder(t *testing.T) *builder { return newBuilderAt(t, httptest.NewServer) }

// overHTTP2 is how most clients come to a server with TLS.
func overHTTP2(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	return s
}

func newBuilderAt(t *testing.T, start func(http.Handler) *httptest.Server) *builder {
	t.Helper()
	b := &builder{server: newServer(t), dir: t.TempDir()}
	images := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			b.mu.Lock()
			gate := b.gate
			b.mu.Unlock()
			if gate != nil {
				gate()
			}
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(served.Close)
	b.registry = strings.TrimPrefix(served.URL, "http://")
	log := slog.New(slog.NewTextHandler(&syncWriter{w: &b.log}, nil))
	b.pipeline = &release.Pipeline{
		Store: b.db, Hub: &hub.Hub{Seen: b.db.Seen, Log: log}, Log: log, Registry: b.registry,
		Builder: &build.Builder{
			Engine: os.Getenv("DUNLIN_TEST_ENGINE"), Work: filepath.Join(b.dir, "scratch"),
			GoCache: filepath.Join(os.TempDir(), "dunlin-test-gocache"), // as the tests of package release
			Private: []string{"127.0.0.1"}, Log: log,
		},
		Token:   func(string) (string, error) { return "", nil },
		Dest:    func(d build.Destination) build.Destination { d.Insecure = true; return d },
		Sources: filepath.Join(b.dir, "sources"), Work: filepath.Join(b.dir, "work"),
		Limits: build.Limits{Bytes: 1 << 20},
	}
	b.model.Cancelled = b.pipeline.Cancel
	a := &api.API{
		Model: b.model, Auth: b.auth, Logs: b.logs, Keys: b.db, Log: log, Heartbeat: 20 * time.Millisecond,
		Builder: b.pipeline, Fetch: b.pipeline.Builder.Fetch,
	}
	b.door = start(a.Handler())
	t.Cleanup(b.pipeline.Wait)
	t.Cleanup(b.door.Close)
	b.url = b.door.URL
	kind := b.one("/v7/device_type?$filter=slug eq 'generic-amd64'&$select=id")
	org := b.one("/v7/organization(handle='acme')?$select=id")
	var made map[string]any
	if err := json.Unmarshal(b.want(201, b.token, "POST", "/v7/application",
		fmt.Sprintf(`{"app_name":"porch","is_for__device_type":%v,"organization":%v,"is_of__class":"fleet"}`, kind["id"], org["id"])), &made); err != nil {
		t.Fatal(err)
	}
	b.porch = int64(made["id"].(float64))
	return b
}

// syncWriter lets the builds of two releases log into one buffer.
type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

// hold keeps the next builds before their ends. inside is closed when the first is there; release lets all go on.
func (b *builder) hold() (inside chan struct{}, release func()) {
	inside, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gate = func() { once.Do(func() { close(inside) }); <-goOn }
	release = sync.OnceFunc(func() { close(goOn) })
	b.t.Cleanup(release)
	return inside, release
}

const asTheCLI = "/v3/build?slug=acme/porch&dockerfilePath=&emulated=false&nocache=false&headless=false&isdraft=false"

// post sends a source as the stock CLI does: chunked, and without a content type.
func (b *builder) post(ctx context.Context, token, target string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+target, struct{ io.Reader }{body})
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Encoding", "gzip")
	r.Header.Set("Authorization", "Bearer "+token)
	return b.door.Client().Transport.RoundTrip(r)
}

// element is an element of the answer.
type element struct {
	Message  string
	IsError  bool
	Type     string
	Resource string
	Value    any
}

// push sends a source and reads the whole answer.
func (b *builder) push(target string, source []byte) (status int, all []element) {
	b.t.Helper()
	resp, err := b.post(b.t.Context(), b.token, target, bytes.NewReader(source))
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		return resp.StatusCode, []element{{Message: string(text)}}
	}
	if err := json.Unmarshal(text, &all); err != nil {
		b.t.Fatalf("%v in\n%s", err, text)
	}
	return 200, all
}

// told is what the messages say, in lines.
func told(all []element) string {
	var lines []string
	for _, e := range all {
		lines = append(lines, e.Message)
	}
	return strings.Join(lines, "\n")
}

// id is the release that the first element names.
func id(t *testing.T, all []element) int64 {
	t.Helper()
	if len(all) == 0 || all[0].Type != "metadata" || all[0].Resource != "buildLogId" {
		t.Fatalf("the first element is none of the release: %+v", all)
	}
	return int64(all[0].Value.(float64))
}

// stored is what the database says of a release.
func (b *builder) stored(id int64) fleet.Release {
	b.t.Helper()
	r, err := b.db.Release(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// releases are the releases of the fleet.
func (b *builder) releases() []map[string]any {
	b.t.Helper()
	return b.rows(fmt.Sprintf("/v7/release?$filter=belongs_to__application eq %d&$select=id,status,source,commit", b.porch))
}

// sources are the files that are kept.
func (b *builder) sources() []string {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.pipeline.Sources, "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	return files
}

// goModule is a project that is built without an engine.
func goModule(body string) map[string]string {
	return map[string]string{"go.mod": "module example.com/m\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() { " + body + " }\n"}
}

func sourceOf(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range headers {
		text := h.PAXRecords["DUNLIN.text"]
		h.PAXRecords = nil
		h.Size = int64(len(text))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, text string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, PAXRecords: map[string]string{"DUNLIN.text": text}}
}

func project(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var all []*tar.Header
	for name, text := range files {
		all = append(all, file(name, text))
	}
	return sourceOf(t, all...)
}

func TestAFolderIsBuiltAsTheStockCLISendsIt(t *testing.T) {
	b := newBuilder(t)
	resp, err := b.post(t.Context(), b.token, asTheCLI, bytes.NewReader(project(t, goModule(""))))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(kind, "application/json") {
		t.Fatalf("answered %s as %q", resp.Status, kind)
	}
	status, all := b.push(asTheCLI, project(t, goModule("println()")))
	if status != 200 {
		t.Fatalf("%d: %s", status, told(all))
	}
	r := b.stored(id(t, all))
	if r.Status != fleet.Success || r.Draft() || r.NoCache || len(r.Commit) != 32 || r.Fleet != b.porch {
		t.Errorf("%+v", r)
	}
	text := told(all)
	for _, want := range []string{"Building " + r.Commit[:7] + " for acme/porch (amd64)", "source received in", "Release 0.0.0+rev1 (revision 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("the pusher is not told %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "device") || slices.ContainsFunc(all, func(e element) bool { return e.IsError || strings.HasSuffix(e.Message, "\n") }) {
		t.Errorf("the stock CLI reads\n%s", text)
	}
	row := b.one(fmt.Sprintf("/v7/release(%d)?$select=source,build_log", r.ID))
	if row["source"] != "cloud" || !strings.Contains(fmt.Sprint(row["build_log"]), "Building "+r.Commit[:7]) {
		t.Errorf("the release reads %v", row)
	}
	if target := b.one(fmt.Sprintf("/v7/application(%d)?$expand=should_be_running__release($select=id)", b.porch)); !strings.Contains(fmt.Sprint(target["should_be_running__release"]), fmt.Sprint(r.ID)) {
		t.Errorf("the target is %v", target["should_be_running__release"])
	}
	_, all = b.push(asTheCLI+"&rollout=true", project(t, goModule("println(1)")))
	if !strings.Contains(told(all), "No device follows the fleet yet") {
		t.Errorf("with the rollout the client reads\n%s", told(all))
	}
	if left := b.sources(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnElementArrivesBeforeTheBuildEndsAndSoDoSignsOfLife(t *testing.T) {
	t.Run("HTTP/1.1", func(t *testing.T) { elementsArrive(t, newBuilder(t)) })
	t.Run("HTTP/2.0", func(t *testing.T) { elementsArrive(t, newBuilderAt(t, overHTTP2)) })
}

func elementsArrive(t *testing.T, b *builder) {
	inside, goOn := b.hold()
	resp, err := b.post(t.Context(), b.token, asTheCLI, bytes.NewReader(project(t, goModule(""))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !strings.HasSuffix(t.Name(), resp.Proto) {
		t.Fatalf("it travels by %s", resp.Proto)
	}
	raw := &recorder{r: resp.Body}
	dec := json.NewDecoder(raw)
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	var first, second element
	if err := errors.Join(dec.Decode(&first), dec.Decode(&second)); err != nil || first.Resource != "buildLogId" || !strings.HasPrefix(second.Message, "Building ") {
		t.Fatalf("%+v, %+v (%v)", first, second, err)
	}
	<-inside
	if got := b.stored(int64(first.Value.(float64))); got.Status != fleet.Running {
		t.Errorf("it is %s already", got.Status)
	}
	for beats := 0; beats < 2; { // a beat is a line of its own, an element follows a comma
		piece := make([]byte, 1<<10)
		n, err := resp.Body.Read(piece)
		if err != nil {
			t.Fatal(err)
		}
		beats += strings.Count(string(piece[:n]), "\n") - strings.Count(string(piece[:n]), ",\n")
	}
	goOn()
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.HasSuffix(bytes.TrimSpace(rest), []byte("]")) || !bytes.Contains(rest, []byte("built in")) {
		t.Errorf("the rest is %q (%v)", rest, err)
	}
}

// recorder reads a byte at a time, so that a decoder takes nothing that comes after what it needs.
type recorder struct{ r io.Reader }

func (r *recorder) Read(b []byte) (int, error) { return r.r.Read(b[:min(1, len(b))]) }

func TestABuildThatFailsEndsInAnErrorElement(t *testing.T) {
	b := newBuilder(t)
	_, all := b.push(asTheCLI, project(t, goModule("undefined()")))
	r := b.stored(id(t, all))
	at := slices.IndexFunc(all, func(e element) bool { return e.IsError })
	if r.Status != fleet.Failed || at < 0 || !strings.HasPrefix(all[at].Message, "error: ") || !strings.Contains(told(all), "undefined: undefined") {
		t.Errorf("%s, the pusher reads\n%s", r.Status, told(all))
	}
	_, all = b.push(asTheCLI, project(t, map[string]string{"README": "x"}))
	if last := all[len(all)-1]; !strings.HasPrefix(last.Message, "hint: ") || last.IsError || !strings.Contains(told(all), "nothing to build") {
		t.Errorf("of a folder with nothing to build the pusher reads\n%s", told(all))
	}
}

func TestADetachedPushIsAnsweredWhenItsReleaseBegins(t *testing.T) {
	b := newBuilder(t)
	inside, goOn := b.hold()
	resp, err := b.post(t.Context(), b.token, strings.Replace(asTheCLI, "headless=false", "headless=true", 1), bytes.NewReader(project(t, goModule(""))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		Started   bool
		ReleaseID int64
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || !a.Started {
		t.Fatalf("%+v (%v)", a, err)
	}
	<-inside
	if got := b.stored(a.ReleaseID); got.Status != fleet.Running {
		t.Errorf("it is %s already", got.Status)
	}
	goOn()
	b.pipeline.Wait()
	if got := b.stored(a.ReleaseID); got.Status != fleet.Success {
		t.Errorf("it ended as %s", got.Status)
	}
}

func TestAPushMayBeADraftAndNameItsDockerfile(t *testing.T) {
	b := newBuilder(t)
	files := goModule("")
	files["Dockerfile"] = "FROM nowhere.invalid/nothing\n"
	target := strings.NewReplacer("isdraft=false", "isdraft=true", "dockerfilePath=", "dockerfilePath=.%2Fgo.mod", "emulated=false", "emulated=true").Replace(asTheCLI)
	_, all := b.push(target, project(t, files))
	if r := b.stored(id(t, all)); r.Status != fleet.Success || !r.Draft() || r.NoCache {
		t.Errorf("%+v\n%s", r, told(all))
	}
	_, all = b.push(strings.Replace(asTheCLI, "nocache=false", "nocache=true", 1), project(t, map[string]string{"README": "nothing to build is quickest"}))
	if r := b.stored(id(t, all)); !r.NoCache || r.WantsDraft {
		t.Errorf("%+v", r)
	}
	for _, path := range []string{"../Dockerfile", "/etc/passwd", "..", "a%2F..%2F..%2Fb"} {
		if status, all := b.push(strings.Replace(asTheCLI, "dockerfilePath=", "dockerfilePath="+path, 1), project(t, files)); status != 400 {
			t.Errorf("%s: %d %s", path, status, told(all))
		}
	}
	files["docker-compose.yml"] = "services:\n  main:\n    build:\n      context: .\n      x-dunlin-builder: go\n"
	_, all = b.push(strings.Replace(asTheCLI, "dockerfilePath=", "dockerfilePath=Dockerfile", 1), project(t, files))
	if !strings.Contains(told(all), "warning: docker-compose.yml says which Dockerfiles are used") {
		t.Errorf("with a compose file the pusher reads\n%s", told(all))
	}
}

func TestOnlyDevelopersOfTheFleetPush(t *testing.T) {
	b := newBuilder(t)
	_, stranger := b.newUser("eve")
	observer, looks := b.newUser("olga")
	developer, builds := b.newUser("dora")
	for user, role := range map[int64]string{observer.ID: "observer", developer.ID: "developer"} {
		b.exec(`INSERT INTO fleet_memberships (created_at, modified_at, user_id, fleet, role) SELECT 1, 1, $1, $2, id FROM roles WHERE name = $3`, user, b.porch, role)
	}
	key := auth.NewSecret()
	if _, err := b.db.RegisterDevice(t.Context(), store.NewDevice{Fleet: b.porch, UUID: strings.Repeat("d", 32), DeviceType: "generic-amd64",
		KeyHash: auth.HashKey(key), Name: "device"}); err != nil {
		t.Fatal(err)
	}
	f, err := b.db.Fleet(t.Context(), b.porch)
	if err != nil {
		t.Fatal(err)
	}
	provisioning, err := b.auth.NewKey(t.Context(), auth.KeySpec{Actor: f.Actor, Role: fleet.RoleProvisioning})
	if err != nil {
		t.Fatal(err)
	}
	source := project(t, goModule(""))
	unknown := strings.Replace(asTheCLI, "acme/porch", "acme/nothing", 1)
	var answers []string
	for name, c := range map[string]struct {
		token, target string
		want          int
	}{
		"nobody":                     {"", asTheCLI, 401},
		"a key that is none":         {"wrong", asTheCLI, 401},
		"a stranger":                 {stranger, asTheCLI, 404},
		"an unknown fleet":           {b.token, unknown, 404},
		"no fleet at all":            {b.token, "/v3/build", 404},
		"who may look":               {looks, asTheCLI, 403},
		"a device":                   {key, asTheCLI, 403},
		"a provisioning key":         {provisioning, asTheCLI, 403},
		"a developer":                {builds, asTheCLI, 200},
		"in other letters and a bar": {builds, strings.Replace(asTheCLI, "/v3/build?slug=acme/porch", "/V3/Build/?slug=Acme/Porch", 1), 200},
		"a stranger, by url":         {stranger, "/v3/buildFromUrl?owner=acme&app=porch", 404},
	} {
		resp, err := b.post(t.Context(), c.token, c.target, bytes.NewReader(source))
		if strings.Contains(c.target, "Url") {
			resp, err = b.post(t.Context(), c.token, c.target, strings.NewReader(`{"url":"http://127.0.0.1/"}`))
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.want {
			t.Errorf("%s: %d %s (%v), want %d", name, resp.StatusCode, text, err, c.want)
		}
		if c.want == 404 {
			answers = append(answers, string(text))
		}
	}
	if len(slices.Compact(answers)) != 1 {
		t.Errorf("what is not there and what is another's is told apart: %q", answers)
	}
	if all := b.releases(); len(all) != 2 {
		t.Errorf("there are %d releases", len(all))
	}
}

// exec changes rows.
func (b *builder) exec(query string, args ...any) {
	b.t.Helper()
	if err := b.db.Write(b.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(b.t.Context(), query, args...)
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
}

func TestAPusherWhoLeavesCancelsNothingUntilItIsSaid(t *testing.T) {
	b := newBuilder(t)
	inside, goOn := b.hold()
	ctx, leave := context.WithCancel(t.Context())
	resp, err := b.post(ctx, b.token, asTheCLI, bytes.NewReader(project(t, goModule(""))))
	if err != nil {
		t.Fatal(err)
	}
	var first element
	dec := json.NewDecoder(resp.Body)
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&first); err != nil {
		t.Fatal(err)
	}
	id := int64(first.Value.(float64))
	<-inside
	leave()
	resp.Body.Close()
	if got := b.stored(id); got.Status != fleet.Running {
		t.Fatalf("a broken connection makes it %s", got.Status)
	}
	b.want(200, b.token, "PATCH", fmt.Sprintf("/v7/release(%d)?$filter=status ne 'success'", id), fmt.Sprintf(`{"status":"cancelled","end_timestamp":%d}`, time.Now().UnixMilli()))
	goOn()
	_, all := b.push(asTheCLI, project(t, goModule("println()"))) // its turn comes when the first has ended
	if got := b.stored(id); got.Status != fleet.Cancelled {
		t.Errorf("it ended as %s", got.Status)
	}
	if !strings.Contains(told(all), "Release 0.0.0 (revision 0") {
		t.Errorf("the next is told\n%s", told(all))
	}
}

func TestAPusherWhoStaysReadsThatItWasCancelled(t *testing.T) {
	b := newBuilder(t)
	inside, goOn := b.hold()
	go func() {
		<-inside
		for _, r := range b.releases() {
			b.want(200, b.token, "PATCH", fmt.Sprintf("/v7/release(%v)", r["id"]), `{"status":"cancelled"}`)
		}
		goOn()
	}()
	_, all := b.push(asTheCLI, project(t, goModule("")))
	if !strings.Contains(told(all), "error: the release was cancelled") || b.stored(id(t, all)).Status != fleet.Cancelled {
		t.Errorf("the pusher reads\n%s", told(all))
	}
}

func TestAHostileSourceEndsAsAFailedReleaseOrAsNone(t *testing.T) {
	b := newBuilder(t)
	whole := project(t, goModule(""))
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		source []byte
		status int
		says   string
	}{
		"a path out of it":    {sourceOf(t, file("../../evil", "x")), 200, "leaves it"},
		"an absolute path":    {sourceOf(t, file("/etc/evil", "x")), 200, "unusable name"},
		"a path below a link": {sourceOf(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/tmp"}, file("a/evil", "x")), 200, "below a file or a symbolic link"},
		"a hard link":         {sourceOf(t, &tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "/etc/passwd"}), 200, "hard link"},
		"a device":            {sourceOf(t, &tar.Header{Typeflag: tar.TypeBlock, Name: "sda"}), 200, "neither a file nor a folder"},
		"a bomb":              {bomb.Bytes(), 413, "larger than the server takes"},
		"cut short":           {whole[:len(whole)-20], 400, "cut short or damaged"},
		"a picture":           {append([]byte("\x89PNG\r\n"), make([]byte, 4000)...), 400, "no tar archive"},
		"nothing":             {nil, 400, "empty"},
	} {
		before := len(b.releases())
		status, all := b.push(asTheCLI, c.source)
		if status != c.status || !strings.Contains(told(all), c.says) {
			t.Errorf("%s: %d\n%s", name, status, told(all))
		}
		if status != 200 && len(b.releases()) != before {
			t.Errorf("%s made a release", name)
		}
		if status == 200 {
			if r := b.stored(id(t, all)); r.Status != fleet.Failed {
				t.Errorf("%s: the release is %s", name, r.Status)
			}
		}
		if left := b.sources(); len(left) != 0 {
			t.Errorf("%s: left behind %v", name, left)
		}
	}
	for _, evil := range []string{filepath.Join(b.dir, "evil"), "/etc/evil", "/tmp/evil"} {
		if _, err := os.Lstat(evil); err == nil {
			t.Errorf("%s is there", evil)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestAnUploadThatBreaksOffOrIsTooLargeLeavesNothing(t *testing.T) {
	b := newBuilder(t)
	address := strings.TrimPrefix(b.url, "http://")
	speak := func(text string, leave bool) string {
		t.Helper()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if leave {
			return ""
		}
		answer, _ := io.ReadAll(c) // a server that hangs up is an answer too
		return string(answer)
	}
	head := "POST " + asTheCLI + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b.token + "\r\nContent-Encoding: gzip\r\n"
	source := project(t, goModule(""))
	speak(fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", head, len(source), source), true) // no last chunk
	if got := speak(head+"Content-Length: 2147483648\r\n\r\nxxxx", false); !strings.HasPrefix(got, "HTTP/1.1 413") {
		t.Errorf("2 GiB are answered with %.200s", got)
	}
	b.door.Close() // when both have been answered
	if all, left := b.releases(), b.sources(); len(all) != 0 || len(left) != 0 {
		t.Errorf("there are releases %v and sources %v", all, left)
	}
}

func TestTheHistoryOfAFolderIsHeldToTheFleets(t *testing.T) {
	b := newBuilder(t)
	mine, foreign := strings.Repeat("a", 40), strings.Repeat("b", 40)
	source := project(t, goModule(""))
	_, all := b.push(asTheCLI+"&gitroot="+mine+"&gitcommit="+strings.Repeat("c", 40), source)
	if r := b.stored(id(t, all)); r.Status != fleet.Success || r.GitCommit != strings.Repeat("c", 40) {
		t.Fatalf("%+v\n%s", r, told(all))
	}
	status, all := b.push(asTheCLI+"&gitroot="+foreign, source)
	if text := told(all); status != 409 || !strings.HasPrefix(text, "this history is unrelated to what was pushed to acme/porch before (it starts at bbbbbbb, the fleet's at aaaaaaa)") ||
		!strings.Contains(text, "\nhint: ") || !strings.Contains(text, "--force-history") {
		t.Errorf("another history: %d %s", status, text)
	}
	if status, all := b.push(asTheCLI+"&gitroot="+foreign, []byte("what is sent is not looked at")); status != 409 {
		t.Errorf("another history, before its source: %d %s", status, told(all))
	}
	for name, target := range map[string]string{
		"both": "&gitroot=" + foreign + "&gitroot=" + mine, "none, as of the stock CLI": "", "forced": "&forcehistory=true&gitroot=" + foreign,
	} {
		if status, all := b.push(asTheCLI+target, source); status != 200 {
			t.Errorf("%s: %d %s", name, status, told(all))
		}
	}
	for _, bad := range []string{"&gitroot=xyz", "&gitcommit=" + strings.Repeat("A", 40), "&gitroot=", strings.Repeat("&gitroot="+mine, 51)} {
		if status, all := b.push(asTheCLI+bad, source); status != 400 {
			t.Errorf("%.60s: %d %s", bad, status, told(all))
		}
	}
}

func TestASourceIsFetchedByItsURL(t *testing.T) {
	b := newBuilder(t)
	files := map[string]string{}
	for name, text := range goModule("") {
		files["m-1.0.0/"+name] = text
	}
	source := project(t, files)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/source.tar.gz":
			_, _ = w.Write(source)
		case "/moved":
			http.Redirect(w, r, "/source.tar.gz", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/page":
			_, _ = io.WriteString(w, "<!DOCTYPE html>"+strings.Repeat(" ", 1000))
		case "/short":
			w.Header().Set("Content-Length", fmt.Sprint(len(source)))
			_, _ = w.Write(source[:100])
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	type answer struct {
		Started        bool
		ReleaseID      int64
		Error, Message string
	}
	ask := func(url string, flatten bool) (int, answer) {
		t.Helper()
		body := fmt.Sprintf(`{"url":%q,"shouldFlatten":%v}`, url, flatten)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/v3/buildFromUrl?headless=true&owner=acme&app=porch", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+b.token)
		got, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		all, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		if json.Unmarshal(all, &a) != nil {
			a.Message = string(all)
		}
		return got.StatusCode, a
	}
	for _, path := range []string{"/source.tar.gz", "/moved"} {
		status, a := ask(web.URL+path, true)
		if status != 200 || !a.Started || a.ReleaseID == 0 {
			t.Fatalf("%s: %d %+v", path, status, a)
		}
		b.pipeline.Wait()
		if r := b.stored(a.ReleaseID); r.Status != fleet.Success {
			t.Errorf("%s: the release is %s", path, r.Status)
		}
	}
	before := len(b.releases())
	for name, c := range map[string]struct {
		url    string
		status int
		says   string
	}{
		"not there":          {web.URL + "/nothing", 404, "Failed to fetch tarball from passed URL"},
		"nobody there":       {"http://127.0.0.1:1/", 404, "Failed to fetch tarball from passed URL"},
		"a page":             {web.URL + "/page", 200, "incorrect header check"},
		"cut short":          {web.URL + "/short", 200, "cut short"},
		"another scheme":     {"file:///etc/passwd", 200, "not an http or https address"},
		"a password":         {strings.Replace(web.URL, "//", "//u:p@", 1), 200, "not an http or https address"},
		"a redirect to one":  {web.URL + "/away", 200, "not an http or https address"},
		"round and round":    {web.URL + "/round", 200, "redirects more than"},
		"a private address":  {"http://192.168.0.1/x.tar.gz", 200, "private network"},
		"another of ours":    {"http://[::1]:22/", 200, "private network"},
		"the cloud's keeper": {"http://169.254.169.254/latest", 200, "private network"},
		"nothing at all":     {"", 400, "url is missing"},
	} {
		status, a := ask(c.url, true)
		if status != c.status || a.Started || !strings.Contains(a.Message, c.says) {
			t.Errorf("%s: %d %+v", name, status, a)
		}
	}
	if all, left := b.releases(), b.sources(); len(all) != before || len(left) != 0 {
		t.Errorf("there are releases %v and sources %v", all, left)
	}
	b.pipeline.Builder.Private = nil
	if status, a := ask(web.URL+"/source.tar.gz", true); a.Started || !strings.Contains(a.Message, "private network") {
		t.Errorf("of a host that nobody allowed: %d %+v", status, a)
	}
}

func TestADockerfileIsBuiltWithPasswordsThatAreSeenNowhereElse(t *testing.T) {
	needEngine(t)
	b := newBuilder(t)
	const secret = "hunter2-of-the-registry"
	base := newBase(t, "someone", secret)
	status, all := b.push(asTheCLI, project(t, map[string]string{
		"Dockerfile":                    "FROM " + base + "/base\nCOPY . /src\n",
		"hello":                         "hello",
		".balena/registry-secrets.json": `{"` + base + `": {"username": "someone", "password": "` + secret + `"}}`,
	}))
	r := b.stored(id(t, all))
	if status != 200 || r.Status != fleet.Success {
		t.Fatalf("%d %s\n%s", status, r.Status, told(all))
	}
	var image string
	if err := b.db.Reader().QueryRow(`SELECT i.location FROM images i JOIN release_images ri ON ri.image = i.id WHERE ri.release = $1`, r.ID).Scan(&image); err != nil {
		t.Fatal(err)
	}
	files := contents(t, image)
	if files["src/hello"] != "hello" || files["from-base"] != "yes" {
		t.Errorf("the image holds %v", files)
	}
	for name, text := range files {
		if strings.Contains(name+text, secret) || strings.Contains(name, "registry-secrets") {
			t.Errorf("the image has %s", name)
		}
	}
	if strings.Contains(told(all)+b.log.String()+fmt.Sprint(b.one(fmt.Sprintf("/v7/release(%d)?$select=build_log,composition,contract", r.ID))), secret) {
		t.Error("it is in the log, or in what the pusher reads")
	}
	if err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("it is in %s", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, all := b.push(asTheCLI, project(t, map[string]string{"Dockerfile": "FROM " + base + "/base\n"})); b.stored(id(t, all)).Status != fleet.Failed {
		t.Error("the base was fetched without an account")
	}
}
