package registry_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/registry"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// server is a registry with the token endpoint beside it, and the database they ask. ada has the fleet home with
// the device porch, eve the fleet lair with the device trap.
type server struct {
	*httptest.Server
	t                        *testing.T
	dir                      string
	images                   *registry.Registry
	auth                     *auth.Auth
	host                     string
	ada, eve                 string // API keys
	porch, trap              string
	home, lair               fleet.Fleet
	log                      lines
	mu                       sync.Mutex
	now                      time.Time // Collect's clock; guarded by mu
	tokenQueries             []string  // guarded by mu
	running, done, evesImage string    // repositories
}

// lines is a log that may be written while it is read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

const service = "dunlin.test:443"

func newServer(t *testing.T, start func(http.Handler) *httptest.Server) *server {
	t.Helper()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "registry"), now: time.Now()}
	data := t.TempDir()
	db := storetest.Open(t)
	keys, err := auth.OpenKeyring(data)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	s.auth = &auth.Auth{Store: db, Keys: keys, Issuer: service, Service: service, Log: log}
	s.images, err = registry.New(t.Context(), registry.Config{Dir: s.dir, Service: service, Issuer: service,
		TokenPath: "/auth/v1/token", JWKS: keys.JWKS(), Log: log, Now: s.clock})
	if err != nil {
		t.Fatal(err)
	}
	s.home, s.ada, s.porch = s.tenant("ada", "home")
	s.lair, s.eve, s.trap = s.tenant("eve", "lair")
	s.running, s.done, s.evesImage = repository("a"), repository("b"), repository("c")
	s.image(s.home, s.running, fleet.Running)
	s.image(s.home, s.done, fleet.Success)
	s.image(s.lair, s.evesImage, fleet.Running)
	mux := http.NewServeMux()
	mux.Handle("/v2/", s.images)
	mux.HandleFunc("GET /auth/v1/token", s.token)
	s.Server = start(mux)
	t.Cleanup(s.Close)
	s.host = s.Listener.Addr().String()
	return s
}

func (s *server) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// later moves Collect's clock.
func (s *server) later(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// token is the front door's part.
func (s *server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.tokenQueries = append(s.tokenQueries, r.URL.RawQuery)
	s.mu.Unlock()
	actor, err := s.auth.Request(r)
	if err != nil {
		http.Error(w, fault.Message(err), http.StatusUnauthorized)
		return
	}
	token, err := s.auth.RegistryToken(r.Context(), actor, auth.ScopesOf(r.URL.Query()))
	if err != nil {
		http.Error(w, fault.Message(err), http.StatusBadRequest)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func (s *server) write(query string, args ...any) {
	s.t.Helper()
	if err := s.auth.Store.Write(s.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.Background(), query, args...)
		return err
	}); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

func (s *server) tenant(user, fleetName string) (f fleet.Fleet, userKey, deviceKey string) {
	s.t.Helper()
	ctx, db, slug := s.t.Context(), s.auth.Store, fleet.Slug(user, fleetName)
	u, err := db.AddUser(ctx, store.NewUser{Username: user, JWTSecret: "s"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(`INSERT INTO actors (kind) VALUES ('application')`)
	s.write(`INSERT INTO fleets (created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type)
		SELECT 1, 1, (SELECT MAX(id) FROM actors), o.id, $1, $2, $2, t.id, p.id
		FROM organizations o, device_types t, application_types p WHERE o.handle = $3 AND t.slug = 'generic-amd64'`,
		fleetName, slug, user)
	if f, err = db.MemberFleet(ctx, u.ID, slug); err != nil {
		s.t.Fatal(err)
	}
	deviceKey = auth.NewSecret()
	if _, err := db.RegisterDevice(ctx, store.NewDevice{Fleet: f.ID, UUID: "uuid of " + slug, DeviceType: "generic-amd64",
		KeyHash: auth.HashKey(deviceKey), Name: "device"}); err != nil {
		s.t.Fatal(err)
	}
	userKey, err = s.auth.NewKey(ctx, auth.KeySpec{Actor: u.Actor, Role: fleet.RoleUser})
	if err != nil {
		s.t.Fatal(err)
	}
	return f, userKey, deviceKey
}

func repository(letter string) string { return "v2/" + strings.Repeat(letter, 32) }

// image records an image of a release that is deployed to a fleet.
func (s *server) image(f fleet.Fleet, repository string, status fleet.Status) {
	s.t.Helper()
	s.write(`INSERT INTO services (created_at, modified_at, fleet, name) VALUES (1, 1, $1, 'main') ON CONFLICT DO NOTHING`, f.ID)
	s.write(`INSERT INTO releases (created_at, modified_at, fleet, commit_id, status, start_timestamp, update_timestamp, deployed)
		VALUES (1, 1, $1, $2, $3, 1, 1, TRUE)`, f.ID, repository, status)
	s.write(`INSERT INTO images (created_at, modified_at, service, location, repository, status, start_timestamp)
		SELECT 1, 1, id, 'host/' || $2, $2, $3, 1 FROM services WHERE fleet = $1`, f.ID, repository, status)
	s.write(`INSERT INTO release_images (created_at, modified_at, image, release)
		SELECT 1, 1, i.id, r.id FROM images i, releases r WHERE i.repository = $1 AND r.commit_id = $1`, repository)
}

func (s *server) ref(repository string) name.Reference {
	s.t.Helper()
	ref, err := name.ParseReference(s.host + "/" + repository + ":latest")
	if err != nil {
		s.t.Fatal(err)
	}
	return ref
}

// as are the credentials of an API key, the way a device's engine sends them.
func (s *server) as(key string) []remote.Option {
	return []remote.Option{remote.WithAuth(&authn.Basic{Username: "d_uuid", Password: key}),
		remote.WithTransport(s.Client().Transport), remote.WithContext(s.t.Context()),
		remote.WithRetryPredicate(func(error) bool { return false })}
}

func newImage(t *testing.T, bytes, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(bytes, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// same fails the test unless a repository has the image, down to the last byte.
func (s *server) same(repository string, want v1.Image, key string) {
	s.t.Helper()
	got, err := remote.Image(s.ref(repository), s.as(key)...)
	if err != nil {
		s.t.Errorf("pull %s: %v", repository, err)
		return
	}
	a, err := want.Digest()
	if err != nil {
		s.t.Fatal(err)
	}
	if b, err := got.Digest(); err != nil || a != b {
		s.t.Errorf("%s is %s, %v; want %s", repository, b, err, a)
	}
	if err := validate.Image(got); err != nil {
		s.t.Errorf("%s: %v", repository, err)
	}
}

func TestAnImageIsPushedByItsUserAndPulledByItsDevice(t *testing.T) {
	for scheme, start := range map[string]func(http.Handler) *httptest.Server{
		"plain HTTP": httptest.NewServer, "TLS": httptest.NewTLSServer,
	} {
		t.Run(scheme, func(t *testing.T) {
			s := newServer(t, start)
			img := newImage(t, 10_000, 3)
			if err := remote.Write(s.ref(s.running), img, s.as(s.ada)...); err != nil {
				t.Fatal(err)
			}
			s.same(s.running, img, s.porch)
			s.same(s.running, img, s.ada)
			// By digest, as a target names it.
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			ref, err := name.NewDigest(s.host + "/" + s.running + "@" + digest.String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := remote.Get(ref, s.as(s.porch)...); err != nil {
				t.Error(err)
			}
			if n, err := s.images.Size(t.Context()); err != nil || n < 30_000 {
				t.Errorf("the registry holds %d bytes, %v", n, err)
			}
			if text := s.log.String(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
				t.Errorf("a push and a pull without fault were logged as\n%s", text)
			}
		})
	}
}

func TestTheWrongActorNeitherPushesNorPulls(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	img := newImage(t, 1000, 1)
	if err := remote.Write(s.ref(s.running), img, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	revoked, err := s.auth.NewKey(t.Context(), auth.KeySpec{Actor: s.home.Actor, Role: fleet.RoleProvisioning})
	if err != nil {
		t.Fatal(err)
	}
	for who, key := range map[string]string{"eve": s.eve, "eve's device": s.trap, "a wrong key": auth.NewSecret(), "a provisioning key": revoked} {
		if _, err := remote.Image(s.ref(s.running), s.as(key)...); err == nil {
			t.Errorf("%s pulls ada's image", who)
		}
		if err := remote.Write(s.ref(s.running), newImage(t, 1000, 1), s.as(key)...); err == nil {
			t.Errorf("%s pushes to ada's image", who)
		}
	}
	if err := remote.Write(s.ref(s.running), newImage(t, 1000, 1), s.as(s.porch)...); err == nil {
		t.Error("a device pushes")
	}
	if err := remote.Write(s.ref(s.done), img, s.as(s.ada)...); err == nil {
		t.Error("an image that is done is pushed again")
	}
	if err := remote.Write(s.ref(repository("d")), img, s.as(s.ada)...); err == nil {
		t.Error("an image without a row is pushed")
	}
	if err := remote.Delete(s.ref(s.running), s.as(s.ada)...); err == nil {
		t.Error("a client deletes")
	}
	if _, err := remote.Catalog(t.Context(), s.ref(s.running).Context().Registry, s.as(s.ada)...); err == nil {
		t.Error("a client lists all repositories")
	}
	s.same(s.running, img, s.porch)
	// A device that is removed is out with its key.
	s.write(`DELETE FROM devices WHERE fleet = $1`, s.home.ID)
	if _, err := remote.Image(s.ref(s.running), s.as(s.porch)...); err == nil {
		t.Error("a removed device pulls")
	}
}

// get sends one request and returns the answer, with its body read.
func (s *server) get(method, path, token string, headers ...string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		s.t.Fatal(err)
	}
	return answer
}

func TestATokenOpensItsRepositoryForItsActionsWhileItLasts(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	if err := remote.Write(s.ref(s.running), newImage(t, 100, 1), s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mint := func(change func(*auth.Auth)) string {
		t.Helper()
		a := &auth.Auth{Store: s.auth.Store, Keys: s.auth.Keys, Issuer: service, Service: service}
		change(a)
		token, err := a.BuilderToken(s.running)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := mint(func(*auth.Auth) {})
	pull, err := s.auth.RegistryToken(t.Context(), fleet.Actor{Kind: fleet.DeviceActor, ID: 1}, []string{"repository:" + s.running + ":pull,push"})
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"iss": service, "aud": service, "exp": time.Now().Add(time.Hour).Unix(),
		"access": []map[string]any{{"type": "repository", "name": s.running, "actions": []string{"*"}}}}
	hmac, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(s.auth.Keys.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	manifest := "/v2/" + s.running + "/manifests/latest"
	const accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
	for _, c := range []struct {
		what, method, path, token string
		want                      int
		challenge                 string // error of the WWW-Authenticate header; "" for none
	}{
		{"the right token", "GET", manifest, good, 200, ""},
		{"a pull token", "GET", manifest, pull, 200, ""},
		{"a pull token to push", "POST", "/v2/" + s.running + "/blobs/uploads/", pull, 401, "insufficient_scope"},
		{"the right token to push", "POST", "/v2/" + s.running + "/blobs/uploads/", good, 202, ""},
		{"no token", "GET", manifest, "", 401, "-"},
		{"garbage", "GET", manifest, "a.b.c", 401, "invalid_token"},
		{"an API key", "GET", manifest, s.ada, 401, "invalid_token"},
		{"another repository", "GET", "/v2/" + s.done + "/manifests/latest", good, 401, "insufficient_scope"},
		{"another repository's layer mounted", "POST", "/v2/" + s.running + "/blobs/uploads/?mount=sha256:" +
			strings.Repeat("0", 64) + "&from=" + s.done, good, 401, "insufficient_scope"},
		{"delete", "DELETE", manifest, good, 401, "insufficient_scope"},
		{"the catalog", "GET", "/v2/_catalog", good, 401, "insufficient_scope"},
		{"expired", "GET", manifest, mint(func(a *auth.Auth) {
			a.Now = func() time.Time { return time.Now().Add(-2*time.Hour - 2*time.Minute) }
		}), 401, "invalid_token"},
		{"not yet", "GET", manifest, mint(func(a *auth.Auth) {
			a.Now = func() time.Time { return time.Now().Add(5 * time.Minute) }
		}), 401, "invalid_token"},
		{"a foreign key", "GET", manifest, mint(func(a *auth.Auth) { a.Keys = keys }), 401, "invalid_token"},
		{"a foreign issuer", "GET", manifest, mint(func(a *auth.Auth) { a.Issuer = "other" }), 401, "invalid_token"},
		{"another service", "GET", manifest, mint(func(a *auth.Auth) { a.Service = "other" }), 401, "invalid_token"},
		{"HMAC with the public key", "GET", manifest, hmac, 401, "invalid_token"},
		{"no signature", "GET", manifest, unsigned, 401, "invalid_token"},
	} {
		answer := s.get(c.method, c.path, c.token, "Accept", accept)
		if answer.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", c.what, answer.StatusCode, c.want)
		}
		challenge := answer.Header.Get("WWW-Authenticate")
		if c.challenge == "" {
			if challenge != "" {
				t.Errorf("%s: challenge %s", c.what, challenge)
			}
			continue
		}
		if !strings.HasPrefix(challenge, fmt.Sprintf(`Bearer realm=%q,service=%q`, s.URL+"/auth/v1/token", service)) ||
			c.challenge != "-" && !strings.Contains(challenge, `error="`+c.challenge+`"`) {
			t.Errorf("%s: challenge %s", c.what, challenge)
		}
	}
}

func TestTheChallengeSendsAClientWhereItCameFrom(t *testing.T) {
	plain, tls := newServer(t, httptest.NewServer), newServer(t, httptest.NewTLSServer)
	for _, c := range []struct {
		s                  *server
		host, proto, realm string
	}{
		{plain, "registry2.dunlin.test", "", "http://registry2.dunlin.test/auth/v1/token"},
		{plain, "10.0.0.7:8080", "", "http://10.0.0.7:8080/auth/v1/token"},
		{plain, "dunlin.test", "https", "https://dunlin.test/auth/v1/token"},
		{plain, "dunlin.test", "HTTPS, http", "https://dunlin.test/auth/v1/token"},
		{plain, "dunlin.test", "http", "http://dunlin.test/auth/v1/token"},
		{plain, "dunlin.test", "gopher", "http://dunlin.test/auth/v1/token"},
		{tls, "dunlin.test:8443", "", "https://dunlin.test:8443/auth/v1/token"},
		{tls, "dunlin.test:8443", "http", "https://dunlin.test:8443/auth/v1/token"},
	} {
		answer := c.s.get("GET", "/v2/", "", "Host", c.host, "X-Forwarded-Proto", c.proto, "X-Forwarded-Host", "evil.test", "Forwarded", "host=evil.test")
		want := fmt.Sprintf(`Bearer realm=%q,service=%q`, c.realm, service)
		if got := answer.Header.Get("WWW-Authenticate"); answer.StatusCode != 401 || got != want {
			t.Errorf("%s, proto %q: %d, %s; want %s", c.host, c.proto, answer.StatusCode, got, want)
		}
	}
	// Where an upload goes on is told without a host.
	token, err := plain.auth.BuilderToken(plain.running)
	if err != nil {
		t.Fatal(err)
	}
	answer := plain.get("POST", "/v2/"+plain.running+"/blobs/uploads/", token, "X-Forwarded-Host", "evil.test")
	if location := answer.Header.Get("Location"); !strings.HasPrefix(location, "/v2/"+plain.running+"/blobs/uploads/") {
		t.Errorf("an upload goes on at %s", location)
	}
}

func TestALayerOfTheSameTenantIsMountedAndNotSentAgain(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	second := repository("e")
	s.image(s.home, second, fleet.Running)
	img := newImage(t, 1000, 2)
	if err := remote.Write(s.ref(s.running), img, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(s.ref(s.running), s.as(s.ada)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(s.ref(second), pulled, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	s.same(second, img, s.porch)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.tokenQueries {
		if strings.Count(q, "scope=") == 2 {
			return
		}
	}
	t.Errorf("no client asked for two scopes at once, so nothing was mounted: %q", s.tokenQueries)
}

func TestTheLogIsTheHouses(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	token, err := s.auth.BuilderToken(s.running)
	if err != nil {
		t.Fatal(err)
	}
	answer := s.get("GET", "/v2/"+s.running+"/manifests/latest", token)
	if text := s.log.String(); answer.StatusCode != 404 || text != "" {
		t.Errorf("%s; a question for what is not there was logged as\n%s", answer.Status, text)
	}
	digest := strings.Repeat("0", 64)
	link := filepath.Join(s.dir, layout, "repositories", s.running, "_layers/sha256", digest)
	if err := os.MkdirAll(link, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(link, "link"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	answer = s.get("GET", "/v2/"+s.running+"/blobs/sha256:"+digest, token)
	text := s.log.String()
	if answer.StatusCode != 500 || !strings.Contains(text, "level=ERROR msg=registry") || !strings.Contains(text, "repository="+s.running) || strings.Contains(text, token) {
		t.Errorf("%s; a broken store was logged as\n%s", answer.Status, text)
	}
}

func TestAConfigurationThatCannotWorkIsAnErrorAndNoPanic(t *testing.T) {
	for what, jwks := range map[string]string{"no key": `{"keys":[]}`, "no JSON": "x", "nothing": ""} {
		if _, err := registry.New(t.Context(), registry.Config{Dir: t.TempDir(), Service: "s", Issuer: "i", TokenPath: "/t",
			JWKS: []byte(jwks)}); err == nil || !strings.Contains(err.Error(), "open registry") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
