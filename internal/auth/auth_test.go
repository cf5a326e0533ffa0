package auth

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// world is a server's database with two tenants: ada, who has the fleets home and barn, and eve, who has lair.
type world struct {
	*Auth
	t                  *testing.T
	now                time.Time
	ada, eve           fleet.User
	home, barn, lair   fleet.Fleet
	porch, gate, trap  fleet.Device // of home, barn and lair
	porchKey, trapKey  string
	running, done, bad string // repositories: of home, running and done; of lair, running
	log                bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	db := storetest.Open(t)
	keys, err := OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	db.Now = func() time.Time { return w.now }
	w.Auth = &Auth{Store: db, Keys: keys, Issuer: "dunlin.test:443", Service: "dunlin.test:443",
		Now: db.Now, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	w.ada, w.eve = w.user("ada"), w.user("eve")
	w.home, w.porch, w.porchKey = w.fleet(w.ada, "home")
	w.barn, w.gate, _ = w.fleet(w.ada, "barn")
	w.lair, w.trap, w.trapKey = w.fleet(w.eve, "lair")
	w.running = w.image(w.home, "a", fleet.Running)
	w.done = w.image(w.home, "b", fleet.Success)
	w.bad = w.image(w.lair, "c", fleet.Running)
	return w
}

func (w *world) user(name string) fleet.User {
	w.t.Helper()
	u, err := w.Store.AddUser(w.t.Context(), store.NewUser{Username: name, JWTSecret: random(32, alphanumeric)})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

func (w *world) write(query string, args ...any) {
	w.t.Helper()
	if err := w.Store.Write(w.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.Background(), query, args...)
		return err
	}); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// fleet makes a fleet, a device in it and the device's key.
func (w *world) fleet(owner fleet.User, name string) (fleet.Fleet, fleet.Device, string) {
	w.t.Helper()
	slug, key := fleet.Slug(owner.Username, name), NewSecret()
	w.write(`INSERT INTO actors (kind) VALUES ('application')`)
	w.write(`INSERT INTO fleets (created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type)
		SELECT 1, 1, (SELECT MAX(id) FROM actors), o.id, $1, $2, $2, t.id, p.id
		FROM organizations o, device_types t, application_types p WHERE o.handle = $3 AND t.slug = 'generic-amd64'`,
		name, slug, owner.Username)
	f, err := w.Store.MemberFleet(w.t.Context(), owner.ID, slug)
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := w.Store.RegisterDevice(w.t.Context(), store.NewDevice{
		Fleet: f.ID, UUID: "uuid of " + slug, DeviceType: "generic-amd64", KeyHash: HashKey(key), Name: "device of " + slug})
	if err != nil {
		w.t.Fatal(err)
	}
	return f, d, key
}

// image makes an image of a release of a fleet that a user makes, not the server; its repository is made of 32 times a letter.
func (w *world) image(f fleet.Fleet, letter string, status fleet.Status) string {
	w.t.Helper()
	repository := "v2/" + strings.Repeat(letter, 32)
	w.write(`INSERT INTO services (created_at, modified_at, fleet, name) VALUES (1, 1, $1, 'main') ON CONFLICT DO NOTHING`, f.ID)
	w.write(`INSERT INTO releases (created_at, modified_at, fleet, commit_id, status, start_timestamp, update_timestamp, deployed)
		VALUES (1, 1, $1, $2, $3, 1, 1, TRUE)`, f.ID, repository, status)
	w.write(`INSERT INTO images (created_at, modified_at, service, location, repository, status, start_timestamp)
		SELECT 1, 1, id, 'host/' || $2, $2, $3, 1 FROM services WHERE fleet = $1`, f.ID, repository, status)
	w.write(`INSERT INTO release_images (created_at, modified_at, image, release)
		SELECT 1, 1, i.id, r.id FROM images i, releases r WHERE i.repository = $1 AND r.commit_id = $1`, repository)
	return repository
}

// session is a session of a user, made without a password.
func (w *world) session(u fleet.User) string {
	w.t.Helper()
	login, err := w.Store.LoginOf(w.t.Context(), u.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := w.newSession(login, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func (w *world) key(spec KeySpec) string {
	w.t.Helper()
	secret, err := w.NewKey(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return secret
}

// ask is who a request with this Authorization header, or without one, is from.
func (w *world) ask(authorization, target string) (fleet.Actor, error) {
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, target, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return w.Request(r)
}

func basic(user, password string) string {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func (w *world) refused(what, authorization string) {
	w.t.Helper()
	if a, err := w.ask(authorization, "/"); !fault.Is(err, fault.Unauthenticated) || a != (fleet.Actor{}) {
		w.t.Errorf("%s: got %+v, %v; want unauthenticated", what, a, err)
	}
}

func TestARequestIsFromWhoeverItsCredentialsBelongTo(t *testing.T) {
	w := newWorld(t)
	const from = "192.0.2.1" // as httptest has it
	nobody := fleet.Actor{Address: from}
	ada := fleet.Actor{Kind: fleet.UserActor, Actor: w.ada.Actor, ID: w.ada.ID, Name: "ada", Address: from}
	eve := fleet.Actor{Kind: fleet.UserActor, Actor: w.eve.Actor, ID: w.eve.ID, Name: "eve", Address: from, Administrator: true}
	porch := fleet.Actor{Kind: fleet.DeviceActor, Actor: w.porch.Actor, ID: w.porch.ID, Fleet: w.home.ID, Name: w.porch.UUID, Address: from}
	home := fleet.Actor{Kind: fleet.FleetActor, Actor: w.home.Actor, ID: w.home.ID, Fleet: w.home.ID, Name: "ada/home", Address: from}
	if err := w.Store.SetAdministrator(t.Context(), fleet.Actor{}, w.eve.ID, true); err != nil {
		t.Fatal(err)
	}
	session := w.session(w.ada)
	userKey := w.key(KeySpec{Actor: w.ada.Actor, Role: fleet.RoleUser})
	fleetKey := w.key(KeySpec{Actor: w.home.Actor, Role: fleet.RoleProvisioning, Expiry: w.now.Add(time.Minute)})
	for _, c := range []struct {
		what, authorization, target string
		want                        fleet.Actor
	}{
		{"nothing at all", "", "/", nobody},
		{"an empty key in the query", "", "/?apikey=", nobody},
		{"an administrator's session", "Bearer " + w.session(w.eve), "/", eve},
		{"an administrator's key", "Bearer " + w.key(KeySpec{Actor: w.eve.Actor, Role: fleet.RoleUser}), "/", eve},
		{"a session", "Bearer " + session, "/", ada},
		{"a scheme in small letters", "bearer " + session, "/", ada},
		{"a scheme in capitals and more space", "BEARER   " + session + " ", "/", ada},
		{"a user's key", "Bearer " + userKey, "/", ada},
		{"a device's key", "Bearer " + w.porchKey, "/", porch},
		{"a provisioning key", "Bearer " + fleetKey, "/", home},
		{"a device's key as a password", basic("d_"+w.porch.UUID, w.porchKey), "/", porch},
		{"a password with any user name", basic("eve", w.porchKey), "/", porch},
		{"a session as a password", basic("", session), "/", ada},
		{"basic in small letters", "basic" + strings.TrimPrefix(basic("d", w.porchKey), "Basic"), "/", porch},
		{"a key in the query", "", "/?apikey=" + w.porchKey, porch},
		{"a header and a query: the header decides", "Bearer " + userKey, "/?apikey=" + w.trapKey, ada},
	} {
		got, err := w.ask(c.authorization, c.target)
		got.Key = 0
		if got != c.want || err != nil {
			t.Errorf("%s: got %+v, %v; want %+v", c.what, got, err, c.want)
		}
	}
	if a, err := w.ask("Bearer "+userKey, "/"); err != nil || a.Key == 0 {
		t.Errorf("a key's actor has no key row: %+v, %v", a, err)
	}
	if a, err := w.ask("Bearer "+session, "/"); err != nil || a.Key != 0 {
		t.Errorf("a session's actor has a key row: %+v, %v", a, err)
	}
}

func TestWrongCredentialsAreNotNobodys(t *testing.T) {
	w := newWorld(t)
	session := w.session(w.ada)
	for what, authorization := range map[string]string{
		"an unknown key":           "Bearer " + NewSecret(),
		"an unknown password":      basic("ada", "secret"),
		"a key as the user name":   basic(w.porchKey, ""),
		"a scheme without a token": "Bearer",
		"another scheme":           "Digest " + w.porchKey,
		"a token without a scheme": w.porchKey,
		"basic without base64":     "Basic " + w.porchKey,
		"a hash for a key":         "Bearer " + HashKey(w.porchKey),
		"a session cut short":      "Bearer " + session[:len(session)-2],
		"three dots":               "Bearer a.b.c.d",
		"a very long token":        "Bearer " + strings.Repeat("a", maxToken+1),
		"a very long session":      "Bearer " + strings.Repeat("a", maxToken) + ".b.c",
		"NUL":                      "Bearer \x00",
	} {
		w.refused(what, authorization)
	}
	if _, err := w.ask("", "/?apikey="+NewSecret()); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("an unknown key in the query: %v", err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header["Authorization"] = []string{"Bearer " + w.porchKey, "Bearer " + w.trapKey}
	if _, err := w.Request(r); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("two headers: %v", err)
	}
}

func TestASessionEndsWithTimePasswordAndUser(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 64
	session := "Bearer " + w.session(w.ada)
	w.now = w.now.Add(sessionLife - time.Second)
	if _, err := w.ask(session, "/"); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(2 * time.Second)
	w.refused("a session of 7 days ago", session)

	session = "Bearer " + w.session(w.ada)
	if err := w.SetPassword(t.Context(), fleet.Actor{}, w.ada.ID, "another password"); err != nil {
		t.Fatal(err)
	}
	w.refused("a session from before the new password", session)

	session = "Bearer " + w.session(w.ada)
	w.write(`DELETE FROM users WHERE id = $1`, w.ada.ID)
	w.refused("a session of a deleted user", session)
	if err := w.SetPassword(t.Context(), fleet.Actor{}, w.ada.ID, "another password"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a password for a deleted user: %v", err)
	}
}

func TestAForgedSessionIsRefused(t *testing.T) {
	w := newWorld(t)
	login, err := w.Store.LoginOf(t.Context(), w.ada.ID)
	if err != nil {
		t.Fatal(err)
	}
	c := sessionClaims{User: login.ID, Secret: login.JWTSecret,
		RegisteredClaims: jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(w.now.Add(time.Hour))}}
	forge := func(what string, method jwt.SigningMethod, key any, c sessionClaims) {
		t.Helper()
		token, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		w.refused(what, "Bearer "+token)
	}
	forge("no signature", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, c)
	forge("another key", jwt.SigningMethodHS256, []byte(strings.Repeat("k", 32)), c)
	forge("the public token key as a secret", jwt.SigningMethodHS256, w.Keys.JWKS(), c)
	forge("the registry's key", jwt.SigningMethodES256, w.Keys.token, c)
	forge("another algorithm", jwt.SigningMethodHS384, w.Keys.session, c)
	other := c
	other.User = w.eve.ID
	forge("another user's number", jwt.SigningMethodHS256, w.Keys.session, other)
	other = c
	other.ExpiresAt = nil
	forge("no end", jwt.SigningMethodHS256, w.Keys.session, other)
	other = c
	other.Secret = ""
	forge("no secret", jwt.SigningMethodHS256, w.Keys.session, other)

	token, err := w.BuilderToken(w.running)
	if err != nil {
		t.Fatal(err)
	}
	w.refused("a registry token", "Bearer "+token)
}

func TestAKeyStopsWhenItExpiresIsRevokedOrItsHolderGoes(t *testing.T) {
	w := newWorld(t)
	brief := w.key(KeySpec{Actor: w.home.Actor, Role: fleet.RoleProvisioning, Expiry: w.now.Add(time.Minute)})
	revoked := w.key(KeySpec{Actor: w.ada.Actor, Role: fleet.RoleNamedUser, Name: "ci"})
	w.now = w.now.Add(time.Minute)
	w.refused("an expired key", "Bearer "+brief)
	w.write(`DELETE FROM api_keys WHERE key_hash = $1`, HashKey(revoked))
	w.refused("a revoked key", "Bearer "+revoked)
	w.write(`DELETE FROM devices WHERE id = $1`, w.porch.ID)
	w.refused("a deleted device's key", "Bearer "+w.porchKey)
	w.write(`DELETE FROM fleets WHERE id = $1`, w.lair.ID)
	w.refused("the key of a device whose fleet is gone", "Bearer "+w.trapKey)
}

// The ranks: what each role in the fleet's organization, in the fleet alone, or in a team that has the fleet opens.
func TestSourceIsForDevelopersOnly(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	join := map[string]func(user int64, role string){
		"organization": func(user int64, role string) {
			w.write(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role)
				SELECT 1, 1, $1, $2, id FROM roles WHERE name = $3`, user, w.home.Organization, role)
		},
		"fleet": func(user int64, role string) {
			w.write(`INSERT INTO fleet_memberships (created_at, modified_at, user_id, fleet, role)
				SELECT 1, 1, $1, $2, id FROM roles WHERE name = $3`, user, w.home.ID, role)
		},
		"team": func(user int64, role string) {
			w.write(`INSERT INTO teams (created_at, modified_at, organization, name) VALUES (1, 1, $1, $2)`, w.home.Organization, "team "+role)
			w.write(`INSERT INTO team_memberships (created_at, modified_at, user_id, team) SELECT 1, 1, $1, MAX(id) FROM teams`, user)
			w.write(`INSERT INTO team_fleets (created_at, modified_at, team, fleet, role)
				SELECT 1, 1, (SELECT MAX(id) FROM teams), $1, id FROM roles WHERE name = $2`, w.home.ID, role)
		},
	}
	for _, c := range []struct {
		way, role        string
		look, push, keys bool
	}{
		{"organization", "owner", true, true, true},
		{"organization", "administrator", true, true, true},
		{"organization", "developer", true, true, true},
		{"organization", "operator", true, false, true},
		{"organization", "observer", true, false, false},
		{"organization", "member", false, false, false},
		{"fleet", "developer", true, true, true},
		{"fleet", "operator", true, false, true},
		{"fleet", "observer", true, false, false},
		{"team", "developer", true, true, true},
		{"team", "operator", true, false, true},
		{"team", "observer", true, false, false},
		{"fleet", "", false, false, false}, // nobody there
	} {
		u := w.user("x-" + c.way + "-" + c.role + "-x")
		if c.role != "" {
			join[c.way](u.ID, c.role)
		}
		who := fleet.Actor{Kind: fleet.UserActor, ID: u.ID, Name: u.Username}
		what := c.role + " of the " + c.way
		if _, err := w.Fleet(ctx, who, "ada/home"); fault.Is(err, fault.NotFound) == c.look || err != nil == c.look {
			t.Errorf("%s looks for the fleet: %v", what, err)
		}
		refusal := fault.NotFound
		if c.look {
			refusal = fault.Denied
		}
		for _, write := range []bool{false, true} {
			if err := w.MayPush(ctx, who, w.home.ID, write); err == nil != c.push || !c.push && !fault.Is(err, refusal) {
				t.Errorf("%s and source, write %v: %v", what, write, err)
			}
		}
		for _, other := range []fleet.Fleet{w.barn, w.lair} {
			if c.way == "organization" && other.ID == w.barn.ID {
				continue
			}
			if err := w.May(ctx, who, other.ID, fleet.Observer); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s and another fleet: %v", what, err)
			}
		}
		token, err := w.RegistryToken(ctx, who, []string{"repository:" + w.running + ":pull,push", "repository:" + w.done + ":pull,push"})
		if err != nil {
			t.Fatal(err)
		}
		pull, both := []string{}, []string{}
		if c.look {
			pull, both = []string{"pull"}, []string{"pull"}
		}
		if c.push {
			both = append(both, "push")
		}
		want := []scope{{"repository", w.running, both}, {"repository", w.done, pull}}
		if diff := cmp.Diff(want, w.claims(token).Access); diff != "" {
			t.Errorf("%s and images:\n%s", what, diff)
		}
		w.write(`INSERT INTO ssh_keys (created_at, modified_at, user_id, title, public_key, fingerprint) VALUES (1, 1, $1, 't', 'key', $2)`, u.ID, u.Username)
		if keys, err := w.Store.AuthorizedKeys(ctx, u.Username, w.home.ID); err != nil || len(keys) == 1 != c.keys {
			t.Errorf("%s and the devices' shells: %v, %v", what, keys, err)
		}
		if keys, err := w.Store.AuthorizedKeys(ctx, u.Username, w.lair.ID); err != nil || len(keys) > 0 {
			t.Errorf("%s and the shells of other devices: %v, %v", what, keys, err)
		}
	}
}

func TestTheHighestOfSeveralRolesCounts(t *testing.T) {
	w := newWorld(t)
	bob := w.user("bob")
	for role, want := range map[string]fleet.Rank{"observer": fleet.Observer, "developer": fleet.Developer} {
		w.write(`DELETE FROM fleet_memberships`)
		w.write(`INSERT INTO fleet_memberships (created_at, modified_at, user_id, fleet, role) SELECT 1, 1, $1, $2, id FROM roles WHERE name = $3`,
			bob.ID, w.home.ID, role)
		w.write(`DELETE FROM organization_memberships WHERE user_id = $1`, bob.ID)
		w.write(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role)
			SELECT 1, 1, $1, $2, id FROM roles WHERE name = 'observer'`, bob.ID, w.home.Organization)
		if got, err := w.Store.Rank(t.Context(), bob.ID, w.home.ID); got != want || err != nil {
			t.Errorf("%s of the fleet, observer of the organization: rank %d, %v", role, got, err)
		}
	}
}

func TestSourceIsForUsersOnly(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	ada := fleet.Actor{Kind: fleet.UserActor, ID: w.ada.ID, Name: "ada"}
	if f, err := w.Fleet(ctx, ada, "Ada/Home"); err != nil || f.ID != w.home.ID {
		t.Errorf("ada's own fleet: %+v, %v", f, err)
	}
	_, absent := w.Fleet(ctx, ada, "ada/none")
	_, foreign := w.Fleet(ctx, ada, "eve/lair")
	if !fault.Is(absent, fault.NotFound) || !fault.Is(foreign, fault.NotFound) || absent.Error() != foreign.Error() {
		t.Errorf("absent: %v; foreign: %v; want the same", absent, foreign)
	}
	for _, write := range []bool{false, true} {
		for _, c := range []struct {
			who   string
			actor fleet.Actor
			fleet int64
			want  fault.Kind
		}{
			{"ada, of eve's fleet", ada, w.lair.ID, fault.NotFound},
			{"ada, of no fleet", ada, 999, fault.NotFound},
			{"nobody", fleet.Actor{}, w.home.ID, fault.Unauthenticated},
			// A device's id is no user's, even where the numbers are the same.
			{"the fleet's device", fleet.Actor{Kind: fleet.DeviceActor, ID: w.ada.ID, Fleet: w.home.ID}, w.home.ID, fault.Denied},
			{"a provisioning key", fleet.Actor{Kind: fleet.FleetActor, ID: w.ada.ID, Fleet: w.home.ID}, w.home.ID, fault.Denied},
		} {
			if err := w.MayPush(ctx, c.actor, c.fleet, write); !fault.Is(err, c.want) {
				t.Errorf("%s, write %v: got %v, want %v", c.who, write, err, c.want)
			}
			if err := w.May(ctx, c.actor, c.fleet, fleet.Observer); !fault.Is(err, c.want) {
				t.Errorf("%s: got %v, want %v", c.who, err, c.want)
			}
		}
		if err := w.MayPush(ctx, ada, w.home.ID, write); err != nil {
			t.Errorf("ada, of her own fleet, write %v: %v", write, err)
		}
	}
	if _, err := w.Fleet(ctx, fleet.Actor{Kind: fleet.DeviceActor, ID: w.ada.ID}, "ada/home"); !fault.Is(err, fault.Denied) {
		t.Errorf("a device looks for source: %v", err)
	}
}

func FuzzCredentials(f *testing.F) {
	for _, s := range []string{"", "Bearer x", "bearer", "Basic dTpw", "Basic Og==", "Basic %", "Digest a=b", " \t", "Bearer a b"} {
		f.Add(s, "apikey=k")
	}
	f.Fuzz(func(t *testing.T, header, query string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		r.Header["Authorization"] = []string{header}
		token, given := credentials(r)
		if token != "" && !given {
			t.Fatalf("token %q of nobody", token)
		}
		if strings.TrimSpace(header) != "" && !given {
			t.Fatalf("header %q passes for nobody's", header)
		}
		if token != strings.TrimSpace(token) && strings.EqualFold(strings.Fields(header)[0], "bearer") {
			t.Fatalf("bearer token %q has white space", token)
		}
	})
}
