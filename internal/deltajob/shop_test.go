package deltajob_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/deltajob"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/registry"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// serverMode is the word by which this program runs jobs until it is killed.
const serverMode = "server"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == deltajob.Command:
		os.Exit(deltajob.Work(os.Stdin, os.Stdout, os.Stderr, makers()))
	case len(os.Args) > 1 && os.Args[1] == serverMode:
		os.Exit(serve(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// makers are the real ones, and some that tests want.
func makers() map[string]deltajob.Maker {
	all := deltajob.Makers()
	// A delta of 1000 bytes, which are those of the two images alone.
	all["thousand"] = func(_ context.Context, t deltajob.Task) (deltajob.Made, error) { return thousand(t) }
	// The same, once there is a file "go" beside the folder; "begun" is there when it waits.
	all["slow"] = func(_ context.Context, t deltajob.Task) (deltajob.Made, error) {
		beside := filepath.Dir(filepath.Dir(t.Dir))
		if err := os.WriteFile(filepath.Join(t.Dir, "half"), make([]byte, 100), 0o600); err != nil {
			return deltajob.Made{}, err
		}
		part := filepath.Join(beside, "begun.part")
		if err := os.WriteFile(part, fmt.Append(nil, os.Getpid()), 0o600); err != nil {
			return deltajob.Made{}, err
		}
		if err := os.Rename(part, filepath.Join(beside, "begun")); err != nil {
			return deltajob.Made{}, err
		}
		for {
			if _, err := os.Stat(filepath.Join(beside, "go")); err == nil {
				return thousand(t)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	all["broken"] = func(context.Context, deltajob.Task) (deltajob.Made, error) {
		return deltajob.Made{}, errors.New("the moon is full")
	}
	all["impossible"] = func(context.Context, deltajob.Task) (deltajob.Made, error) {
		return deltajob.Made{}, fault.New(fault.Invalid, "a layer is no tar")
	}
	all["crashing"] = func(context.Context, deltajob.Task) (deltajob.Made, error) { panic("index out of range") }
	all["greedy"] = func(context.Context, deltajob.Task) (deltajob.Made, error) {
		for all := []byte{1}; ; all = append(all, all...) {
			if len(all) > 1<<40 {
				return deltajob.Made{}, errors.New("nothing bounds it")
			}
		}
	}
	all["large"] = func(_ context.Context, t deltajob.Task) (deltajob.Made, error) {
		if t.Limit < 1<<20 {
			return deltajob.Made{}, deltajob.ErrUseless
		}
		return deltajob.Made{}, errors.New("the limit is not what the layers have")
	}
	// One that needs much room meanwhile, and never ends.
	all["spreading"] = func(_ context.Context, t deltajob.Task) (deltajob.Made, error) {
		if err := os.WriteFile(filepath.Join(t.Dir, "index"), make([]byte, 5000), 0o600); err != nil {
			return deltajob.Made{}, err
		}
		select {}
	}
	return all
}

func thousand(t deltajob.Task) (deltajob.Made, error) {
	content := []byte(strings.Repeat(t.Old.ID+t.New.ID, 10))[:1000]
	if err := os.WriteFile(filepath.Join(t.Dir, "delta"), content, 0o600); err != nil {
		return deltajob.Made{}, err
	}
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.dunlin.delta.v1",
		"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"x/y","digest":%q,"size":1000}],"of":%q}`,
		digest([]byte("{}")), digest(content), t.New.ID)
	return deltajob.Made{
		Manifest: manifest, Files: []deltajob.File{{Digest: digest(content), Name: "delta"}, {Digest: digest([]byte("{}")), Bytes: []byte("{}")}},
		Blob: digest(content), Size: 1000, From: t.Old.ID, To: t.New.ID,
	}, nil
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// shop is a server's half of deltas, on a real database and a real registry, with one fleet, home, of one service.
type shop struct {
	*deltajob.Jobs
	t      *testing.T
	db     *store.DB
	dir    string
	images *registry.Registry
	ended  chan fleet.Delta // an attempt each
	stop   func()           // Run, and waits for its end
}

// The fleet home, and a stranger's.
const (
	home   = 9001
	lair   = 9002
	main   = 9001 // their services
	theirs = 9002
)

func open(t *testing.T, formats ...string) *shop {
	t.Helper()
	return openAt(t, storetest.Open(t), t.TempDir(), formats...)
}

func openAt(t *testing.T, db *store.DB, dir string, formats ...string) *shop {
	t.Helper()
	s := &shop{t: t, db: db, dir: dir, ended: make(chan fleet.Delta, 1000)}
	s.images, s.Jobs = parts(t.Context(), db, dir, formats)
	s.Jobs.Ended = func(d fleet.Delta, _ time.Duration) { s.ended <- d }
	var there bool
	if err := db.Reader().QueryRow(`SELECT EXISTS (SELECT 1 FROM fleets WHERE id = $1)`, home).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there {
		return s
	}
	s.exec(`DELETE FROM fleets`) // of the catalog, whose releases have the first numbers
	for _, f := range []int64{home, lair} {
		s.exec(`INSERT INTO actors (id, kind) VALUES ($1, 'application')`, f)
		s.exec(`INSERT INTO organizations (id, created_at, modified_at, handle, name) VALUES ($1, 1, 1, $2, $2)`, f, fmt.Sprint("o", f))
		s.exec(`INSERT INTO fleets (id, created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type)
			SELECT $1, 1, 1, $1, $1, 'f', $2, $2, t.id, a.id FROM device_types t, application_types a WHERE t.slug = 'generic-amd64'`, f, fmt.Sprint("o", f, "/f"))
		s.exec(`INSERT INTO services (id, created_at, modified_at, fleet, name) VALUES ($1, 1, 1, $1, 'main')`, f)
	}
	return s
}

// parts are jobs and their registry in a folder.
func parts(ctx context.Context, db *store.DB, dir string, formats []string) (*registry.Registry, *deltajob.Jobs) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	jwks := fmt.Appendf(nil, `{"keys":[{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256","x":%q,"y":%q}]}`, b64(point[1:33]), b64(point[33:]))
	images, err := registry.New(ctx, registry.Config{Dir: filepath.Join(dir, "registry"), Service: "s", Issuer: "s", TokenPath: "/t", JWKS: jwks})
	if err != nil {
		panic(err)
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return images, &deltajob.Jobs{
		Store: db, Registry: images, Formats: formats, Parallel: 1, Dir: filepath.Join(dir, "deltas"), Lease: 300 * time.Millisecond,
		Encoder: deltajob.Process{Program: self, Args: []string{deltajob.Command}, Memory: 16 << 20, Unlimited: raced},
		Backoff: func(int64) time.Duration { return time.Millisecond },
	}
}

// serve runs jobs of the slow kind until it is killed.
func serve(source, dir string) int {
	db, err := store.Open(context.Background(), source)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, jobs := parts(context.Background(), db, dir, []string{"slow"})
	jobs.Lease = time.Hour
	fmt.Fprintln(os.Stderr, errors.Join(jobs.Recover(context.Background()), jobs.Run(context.Background())))
	return 1
}

// run runs the jobs until the test ends, or stop is called.
func (s *shop) run() {
	s.t.Helper()
	if err := s.Recover(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(s.stop)
}

func (s *shop) exec(query string, args ...any) {
	s.t.Helper()
	if err := s.db.Write(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

// text is the first value of a query.
func (s *shop) text(query string, args ...any) string {
	s.t.Helper()
	var v sql.NullString
	if err := s.db.Reader().QueryRow(query, args...).Scan(&v); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return v.String
}

// layer is a gzipped tar of one file.
func layer(name string, content []byte) (compressed []byte, diffID string) {
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatUSTAR}), func() error {
		_, err := w.Write(content)
		return err
	}(), w.Close()); err != nil {
		panic(err)
	}
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain.Bytes()); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return packed.Bytes(), digest(plain.Bytes())
}

// noise is content that nothing makes smaller, the same for the same seed.
func noise(seed string, n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		sum := sha256.Sum256(fmt.Append(nil, seed, i))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// release makes a release of a fleet, whose number its name and its images have, with an image of these files.
func (s *shop) release(f int64, id int64, files ...[]byte) {
	s.t.Helper()
	repository := fmt.Sprintf("v2/%032x", id)
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}
	var content []registry.Blob
	var layers []descriptor
	var diffIDs []string
	whole := 0
	for i, file := range files {
		packed, diffID := layer(fmt.Sprint("file", i), file)
		content = append(content, registry.Blob{Digest: digest(packed), Bytes: packed})
		layers = append(layers, descriptor{"application/vnd.oci.image.layer.v1.tar+gzip", digest(packed), len(packed)})
		diffIDs = append(diffIDs, diffID)
		whole += len(packed)
	}
	config, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "created": fmt.Sprint(id), "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}})
	if err != nil {
		s.t.Fatal(err)
	}
	content = append(content, registry.Blob{Digest: digest(config), Bytes: config})
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor{"application/vnd.oci.image.config.v1+json", digest(config), len(config)}, "layers": layers,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.images.Put(repository, content, manifest, "latest"); err != nil {
		s.t.Fatal(err)
	}
	s.exec(`INSERT INTO releases (id, created_at, modified_at, fleet, commit_id, status, start_timestamp, update_timestamp, revision, semver_major)
		VALUES ($1, 1, 1, $2, $3, 'success', $4, 1, 0, $5)`, id, f, fmt.Sprintf("%032x", id), id, id)
	s.exec(`INSERT INTO images (id, created_at, modified_at, service, location, repository, content_hash, image_size, status, start_timestamp)
		VALUES ($1, 1, 1, $2, $3, $4, $5, $6, 'success', 1)`, id, f, "host/"+repository, repository, digest(manifest), whole)
	s.exec(`INSERT INTO release_images (created_at, modified_at, image, release) VALUES (1, 1, $1, $1)`, id)
}

// device makes a device of a fleet that says it runs a release; 0 says nothing.
func (s *shop) device(f, id, running int64) {
	s.t.Helper()
	s.exec(`INSERT INTO actors (id, kind) VALUES ($1, 'device')`, id)
	s.exec(`INSERT INTO devices (id, created_at, modified_at, actor, fleet, device_type, uuid, name, running_release)
		SELECT $1, 1, 1, $1, $2, device_type, $3, $3, $4 FROM fleets WHERE id = $2`, id, f, fmt.Sprintf("%032x", id), sql.NullInt64{Int64: running, Valid: running != 0})
}

// target moves a fleet's target.
func (s *shop) target(f, release int64) {
	s.t.Helper()
	s.exec(`UPDATE fleets SET target_release = $1 WHERE id = $2`, release, f)
	s.Poke()
}

// outcome waits for the end of an attempt.
func (s *shop) outcome() fleet.Delta {
	s.t.Helper()
	select {
	case d := <-s.ended:
		return d
	case <-time.After(time.Minute):
		s.t.Fatal("nothing was made: " + s.text(`SELECT COALESCE(MAX(status || ' ' || COALESCE(reason, '')), 'no row') FROM deltas`))
	}
	panic("unreachable")
}

// until waits for something to be so.
func (s *shop) until(what string, so func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("it never happened: " + what)
		}
	}
}

// atWork is the files in the folder of what is being made.
func (s *shop) atWork() (files []string) {
	s.t.Helper()
	err := filepath.WalkDir(s.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && path != s.Dir {
			files = append(files, path)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// has reports whether the registry has an artifact with all that it names.
func (s *shop) has(d fleet.Delta) bool {
	s.t.Helper()
	_, err := s.images.Read(d.Target.Repository, d.Artifact.Manifest)
	blob, err2 := s.images.Open(d.Target.Repository, d.Artifact.Blob)
	if err2 == nil {
		err2 = blob.Close()
	}
	for _, err := range []error{err, err2} {
		if err != nil && !errors.Is(err, registry.ErrNotHere) {
			s.t.Fatal(err)
		}
	}
	return err == nil && err2 == nil
}

func question(source, target int64, format string, device int64) deltajob.Question {
	return deltajob.Question{Source: fmt.Sprintf("v2/%032x", source), Target: fmt.Sprintf("v2/%032x", target), Format: format, Device: device}
}
