package store_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

func addUser(t *testing.T, db *store.DB, name string) fleet.User {
	t.Helper()
	u, err := db.AddUser(t.Context(), store.NewUser{Username: name, Email: name + "@example.org", PasswordHash: "h", JWTSecret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// write runs one statement.
func write(t *testing.T, db *store.DB, query string, args ...any) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.Background(), query, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func number(t *testing.T, db *store.DB, query string, args ...any) (n int64) {
	t.Helper()
	if err := db.Reader().QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// addFleet adds a fleet of the user's own organization and a device in it.
func addFleet(t *testing.T, db *store.DB, owner fleet.User, name string) (fleet.Fleet, fleet.Device) {
	t.Helper()
	write(t, db, `INSERT INTO actors (kind) VALUES ('application')`)
	write(t, db, `
		INSERT INTO fleets (created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type)
		SELECT 1, 1, (SELECT MAX(id) FROM actors), o.id, $1, $2, $3, t.id, p.id
		FROM organizations o, device_types t, application_types p
		WHERE o.handle = $4 AND t.slug = 'generic-amd64'`,
		name, fleet.Slug(owner.Username, name), "uuid-of-"+owner.Username+"/"+name, owner.Username)
	f, err := db.MemberFleet(t.Context(), owner.ID, fleet.Slug(owner.Username, name))
	if err != nil {
		t.Fatal(err)
	}
	d, err := db.RegisterDevice(t.Context(), store.NewDevice{
		Fleet: f.ID, UUID: f.UUID + "-device", DeviceType: "generic-amd64", KeyHash: "key of " + f.Slug, Name: "porch"})
	if err != nil {
		t.Fatal(err)
	}
	return f, d
}

// addImage adds an image of a new release of the fleet.
func addImage(t *testing.T, db *store.DB, f fleet.Fleet, repository string, status fleet.Status) {
	t.Helper()
	write(t, db, `INSERT INTO services (created_at, modified_at, fleet, name) VALUES (1, 1, $1, 'main')
		ON CONFLICT (fleet, name) DO NOTHING`, f.ID)
	write(t, db, `INSERT INTO releases (created_at, modified_at, fleet, commit_id, status, start_timestamp, update_timestamp)
		VALUES (1, 1, $1, $2, $3, 1, 1)`, f.ID, repository, status)
	write(t, db, `INSERT INTO images (created_at, modified_at, service, location, repository, status, start_timestamp)
		SELECT 1, 1, id, 'host/' || $2, $2, $3, 1 FROM services WHERE fleet = $1`, f.ID, repository, status)
	write(t, db, `INSERT INTO release_images (created_at, modified_at, image, release)
		SELECT 1, 1, i.id, r.id FROM images i, releases r WHERE i.repository = $1 AND r.commit_id = $1`, repository)
}

func TestTheFirstUserIsMadeOnceWithAnOrganizationOfItsName(t *testing.T) {
	db := storetest.Open(t)
	n := store.NewUser{Username: "ada", PasswordHash: "h", JWTSecret: "s"}
	u, made, err := db.AddFirstUser(t.Context(), n)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	if got := number(t, db, `SELECT COUNT(*) FROM organizations o JOIN organization_memberships m ON m.organization = o.id
		WHERE o.handle = 'ada' AND m.user_id = $1`, u.ID); got != 1 {
		t.Errorf("%d memberships of an organization ada, want 1", got)
	}
	n.Username = "eve"
	if _, made, err := db.AddFirstUser(t.Context(), n); made || err != nil {
		t.Errorf("a second first user: made %v, %v", made, err)
	}
	if got := number(t, db, `SELECT COUNT(*) FROM users`); got != 1 {
		t.Errorf("%d users, want 1", got)
	}
}

func TestAUserWhoseOrganizationIsTakenLeavesNothingBehind(t *testing.T) {
	db := storetest.Open(t)
	write(t, db, `INSERT INTO organizations (created_at, modified_at, handle, name) VALUES (1, 1, 'ada', 'ada')`)
	_, err := db.AddUser(t.Context(), store.NewUser{Username: "ada", JWTSecret: "s"})
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	if got := number(t, db, `SELECT (SELECT COUNT(*) FROM users) + (SELECT COUNT(*) FROM actors WHERE kind <> 'application')`); got != 0 {
		t.Errorf("%d rows of the refused user stayed", got)
	}
}

func TestAUserIsFoundByNameAndByEmail(t *testing.T) {
	db := storetest.Open(t)
	u := addUser(t, db, "ada")
	for _, name := range []string{"ada", "ada@example.org"} {
		if l, err := db.Login(t.Context(), name); err != nil || l.User != u {
			t.Errorf("%s: got %+v, %v", name, l, err)
		}
	}
	if _, err := db.Login(t.Context(), ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("an empty name: %v", err)
	}
}

func TestAKeyTellsWhoHoldsIt(t *testing.T) {
	db := storetest.Open(t)
	u := addUser(t, db, "ada")
	f, d := addFleet(t, db, u, "home")
	now := time.UnixMicro(1_000_000)
	db.Now = func() time.Time { return now }
	for _, k := range []struct {
		key  store.NewKey
		want fleet.Actor
	}{
		{store.NewKey{Actor: u.Actor, Role: fleet.RoleNamedUser, Hash: "user", Expiry: now.Add(time.Second)},
			fleet.Actor{Kind: fleet.UserActor, Actor: u.Actor, ID: u.ID, Name: "ada"}},
		{store.NewKey{Actor: d.Actor, Role: fleet.RoleDevice, Hash: "device"},
			fleet.Actor{Kind: fleet.DeviceActor, Actor: d.Actor, ID: d.ID, Fleet: f.ID, Name: d.UUID}},
		{store.NewKey{Actor: f.Actor, Role: fleet.RoleProvisioning, Hash: "fleet"},
			fleet.Actor{Kind: fleet.FleetActor, Actor: f.Actor, ID: f.ID, Fleet: f.ID, Name: f.Slug}},
	} {
		id, err := db.AddKey(t.Context(), k.key)
		if err != nil {
			t.Fatal(err)
		}
		k.want.Key = id
		got, err := db.KeyActor(t.Context(), k.key.Hash, now)
		if diff := cmp.Diff(k.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", k.key.Hash, err, diff)
		}
	}
	if _, err := db.KeyActor(t.Context(), "user", now.Add(time.Second)); !fault.Is(err, fault.NotFound) {
		t.Errorf("an expired key: %v", err)
	}
	_, err := db.AddKey(t.Context(), store.NewKey{Actor: u.Actor, Role: fleet.RoleUser, Hash: "user"})
	if !fault.Is(err, fault.Conflict) || fault.Message(err) != `"key" must be unique.` {
		t.Errorf("the same key twice: %v", err)
	}
	if _, err := db.AddKey(t.Context(), store.NewKey{Actor: d.Actor, Role: fleet.RoleUser, Hash: "x"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a user's key for a device: %v", err)
	}
}

// Tools make a key of ten minutes for every device they register, and remove none.
func TestAKeyThatHasExpiredLongAgoIsGoneWithTheNextOne(t *testing.T) {
	db := storetest.Open(t)
	u, other := addUser(t, db, "ada"), addUser(t, db, "eve")
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	db.Now = func() time.Time { return now }
	add := func(actor int64, hash string, expiry time.Time) {
		t.Helper()
		if _, err := db.AddKey(t.Context(), store.NewKey{Actor: actor, Role: fleet.RoleUser, Hash: hash, Expiry: expiry}); err != nil {
			t.Fatal(err)
		}
	}
	add(u.Actor, "brief", now.Add(time.Minute))
	add(u.Actor, "longer", now.Add(48*time.Hour))
	add(u.Actor, "for ever", time.Time{})
	add(other.Actor, "another's", now.Add(time.Minute))
	now = now.Add(31 * 24 * time.Hour)
	add(u.Actor, "new", time.Time{})
	var left []string
	rows, err := db.Reader().Query(`SELECT key_hash FROM api_keys ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var hash string
		if err := rows.Scan(&hash); err != nil {
			t.Fatal(err)
		}
		left = append(left, hash)
	}
	if diff := cmp.Diff([]string{"longer", "for ever", "another's", "new"}, left); diff != "" {
		t.Error(diff)
	}
}

func TestAKeyEndsWithItsHolder(t *testing.T) {
	db := storetest.Open(t)
	u := addUser(t, db, "ada")
	f, d := addFleet(t, db, u, "home")
	for actor, k := range map[int64]store.NewKey{
		u.Actor: {Role: fleet.RoleUser, Hash: "user"}, d.Actor: {Role: fleet.RoleDevice, Hash: "device"},
		f.Actor: {Role: fleet.RoleProvisioning, Hash: "fleet"},
	} {
		k.Actor = actor
		if _, err := db.AddKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(hash string) {
		t.Helper()
		if _, err := db.KeyActor(t.Context(), hash, time.Now()); !fault.Is(err, fault.NotFound) {
			t.Errorf("key of a deleted %s: %v", hash, err)
		}
		if got := number(t, db, `SELECT COUNT(*) FROM api_keys WHERE key_hash = $1`, hash); got != 0 {
			t.Errorf("key of a deleted %s is still in the table", hash)
		}
	}
	// A device goes with its fleet, and its actor with it.
	write(t, db, `DELETE FROM fleets WHERE id = $1`, f.ID)
	gone("fleet")
	gone("device")
	write(t, db, `DELETE FROM users WHERE id = $1`, u.ID)
	gone("user")
	if got := number(t, db, `SELECT COUNT(*) FROM actors a WHERE NOT EXISTS (SELECT 1 FROM fleets f WHERE f.actor = a.id AND f.is_host)`); got != 0 {
		t.Errorf("%d actors outlived their nouns", got)
	}
}

func TestAnSSHKeyOpensOneAccount(t *testing.T) {
	db := storetest.Open(t)
	ada, eve := addUser(t, db, "ada"), addUser(t, db, "eve")
	key := store.NewSSHKey{User: ada.ID, Title: "laptop", PublicKey: "ssh-ed25519 AAAA", Fingerprint: "SHA256:x"}
	if _, err := db.AddSSHKey(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	key.User = eve.ID
	if _, err := db.AddSSHKey(t.Context(), key); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same key for another user: %v", err)
	}
	a, err := db.SSHKeyActor(t.Context(), "SHA256:x")
	if want := (fleet.Actor{Kind: fleet.UserActor, Actor: ada.Actor, ID: ada.ID, Name: "ada"}); a != want || err != nil {
		t.Errorf("got %+v, %v", a, err)
	}
	write(t, db, `DELETE FROM users WHERE id = $1`, ada.ID)
	if _, err := db.SSHKeyActor(t.Context(), "SHA256:x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("SSH key of a deleted user: %v", err)
	}
}

func TestRepositoriesAreOpenToTheirOwnTenantOnly(t *testing.T) {
	db := storetest.Open(t)
	ada, eve := addUser(t, db, "ada"), addUser(t, db, "eve")
	home, device := addFleet(t, db, ada, "home")
	barn, sibling := addFleet(t, db, ada, "barn")
	lair, stranger := addFleet(t, db, eve, "lair")
	addImage(t, db, home, "v2/done", fleet.Success)
	addImage(t, db, home, "v2/running", fleet.Running)
	addImage(t, db, lair, "v2/eves", fleet.Running)
	addImage(t, db, home, "v2/ours", fleet.Running)
	// All but the last are built by who deploys them.
	write(t, db, `UPDATE releases SET deployed = TRUE WHERE id NOT IN (
		SELECT ri.release FROM release_images ri JOIN images i ON i.id = ri.image WHERE i.repository = 'v2/ours')`)
	names := []string{"v2/done", "v2/running", "v2/eves", "v2/ours", "v2/none"}
	pull, both := store.RepositoryAccess{Pull: true}, store.RepositoryAccess{Pull: true, Push: true}
	type answer = map[string]store.RepositoryAccess
	for _, c := range []struct {
		who  string
		ask  func(context.Context, int64, []string) (answer, error)
		id   int64
		want answer
	}{
		{"ada", db.UserRepositories, ada.ID, answer{"v2/done": pull, "v2/running": both, "v2/ours": pull}},
		{"eve", db.UserRepositories, eve.ID, answer{"v2/eves": both}},
		{"a device of the fleet", db.DeviceRepositories, device.ID, answer{"v2/done": pull, "v2/running": pull, "v2/ours": pull}},
		{"a device of another fleet of ada's", db.DeviceRepositories, sibling.ID, answer{}},
		{"a device of eve's", db.DeviceRepositories, stranger.ID, answer{"v2/eves": pull}},
		{"no device", db.DeviceRepositories, 999, answer{}},
	} {
		got, err := c.ask(t.Context(), c.id, names)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.who, err, diff)
		}
	}
	if _, err := db.MemberFleet(t.Context(), eve.ID, barn.Slug); !fault.Is(err, fault.NotFound) {
		t.Errorf("eve finds %s: %v", barn.Slug, err)
	}
	for user, want := range map[int64]fleet.Rank{ada.ID: fleet.Owner, eve.ID: fleet.Member} {
		if got, err := db.Rank(t.Context(), user, home.ID); got != want || err != nil {
			t.Errorf("user %d has rank %v, %v", user, got, err)
		}
	}
	for _, status := range []fleet.Status{fleet.Failed, "error", fleet.Cancelled, "interrupted"} {
		addImage(t, db, home, "v2/"+string(status), status)
	}
	got, err := db.ImageRepositories(t.Context())
	if diff := cmp.Diff(map[string]bool{"v2/done": true, "v2/running": true, "v2/eves": true, "v2/ours": true}, got); diff != "" || err != nil {
		t.Errorf("repositories of images: %v\n%s", err, diff)
	}
}
