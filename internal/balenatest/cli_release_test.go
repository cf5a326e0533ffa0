package balenatest

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleettest"
)

// newest is the release of a fleet that was made last.
func (w *world) newest(t testing.TB, fleet int64) map[string]any {
	t.Helper()
	all := w.api.rows(t, fmt.Sprintf("release?$filter=belongs_to__application eq %d&$orderby=id desc&$top=1&$expand=release_tag,release_image($expand=image)", fleet))
	if len(all) == 0 {
		t.Fatal("the fleet has no release")
	}
	return all[0]
}

// ended waits until a release is what it is to become.
func (w *world) ended(t testing.TB, release int64, status string) {
	t.Helper()
	fleettest.Eventually(t, fmt.Sprintf("release %d is a %s", release, status), func() error {
		if got := w.api.one(t, fmt.Sprintf("release(%d)?$select=status", release))["status"]; got != status {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
}

func pushes(t *testing.T, w *world) {
	fleet := w.fleet(t, "quay")
	dir := w.p.write(t, "quay", project("the quay"))
	w.p.shown(t, []string{"compiled in", "Release 0.0.0"}, "push", "admin/quay", "--source", dir, "--release-tag", "port", "left", "who", "me", "--note", "the first one")
	first := w.newest(t, fleet)
	want(t, "the release", []any{first["status"], first["source"], first["is_final"], first["note"]}, []any{"success", "cloud", true, "the first one"})
	want(t, "its tags", len(first["release_tag"].([]any)), 2)
	image := first["release_image"].([]any)[0].(map[string]any)["image"].([]any)[0].(map[string]any)
	if hash, _ := image["content_hash"].(string); !strings.HasPrefix(hash, "sha256:") || image["status"] != "success" {
		t.Errorf("the image is %v", image)
	}
	want(t, "what the fleet should run", id(w.api.one(t, fmt.Sprintf("application(%d)", fleet))["should_be_running__release"]), id(first))

	w.p.balena(t, "push", "quay", "--source", dir, "--draft")
	draft := w.newest(t, fleet)
	want(t, "the draft", []any{draft["status"], draft["is_final"]}, []any{"success", false})
	want(t, "what the fleet should run after a draft", id(w.api.one(t, fmt.Sprintf("application(%d)", fleet))["should_be_running__release"]), id(first))

	var started struct {
		Started   bool
		ReleaseID int64 `json:"releaseId"`
	}
	out := w.p.balena(t, "push", "admin/quay", "--source", dir, "--detached")
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &started); err != nil || !started.Started {
		t.Fatalf("push --detached says %q: %v", out, err)
	}
	w.ended(t, started.ReleaseID, "success")

	broken := maps.Clone(project("the broken quay"))
	broken["main.go"] = "package main\n\nfunc main() { undefined() }\n"
	said := w.p.run(t, "push", "admin/quay", "--source", w.p.write(t, "broken", broken))
	if said.failed == nil || !strings.Contains(said.String(), "undefined: undefined") || !strings.Contains(said.String(), "Remote build failed") {
		t.Errorf("a push that does not compile: %v\n%s", said.failed, said)
	}
	want(t, "the broken release", w.newest(t, fleet)["status"], "failed")
	w.p.refused(t, "Application not found", "push", "admin/nowhere", "--source", dir)
}

func releases(t *testing.T, w *world) {
	fleet := w.fleet(t, "pier")
	dir := w.p.write(t, "pier", project("the pier"))
	w.p.balena(t, "push", "admin/pier", "--source", dir)
	first := w.newest(t, fleet)
	w.p.balena(t, "push", "admin/pier", "--source", dir, "--draft")
	second := w.newest(t, fleet)
	commit, draft := first["commit"].(string), second["commit"].(string)
	running := func() int64 {
		return id(w.api.one(t, fmt.Sprintf("application(%d)", fleet))["should_be_running__release"])
	}

	table := w.p.balena(t, "release", "list", "admin/pier")
	if got := row(t, table, commit); got[0] != fmt.Sprint(id(first)) || got[len(got)-1] != "true" {
		t.Errorf("the release is listed as %v", got)
	}
	if got := row(t, table, draft); got[len(got)-1] != "false" {
		t.Errorf("the draft is listed as %v", got)
	}
	var all []map[string]any
	w.p.json(t, &all, "release", "list", "admin/pier", "--json")
	want(t, "the number of releases", len(all), 2)
	w.p.shown(t, []string{commit, "success"}, "release", commit[:7])
	w.p.shown(t, []string{"services", "main"}, "release", commit, "--composition")
	var shown map[string]any
	w.p.json(t, &shown, "release", commit, "--json")
	want(t, "the release as JSON", []any{id(shown), shown["raw_version"]}, []any{id(first), first["raw_version"]})

	w.p.shown(t, []string{draft[:9] + " finalized"}, "release", "finalize", draft[:9])
	want(t, "is_final", w.api.one(t, fmt.Sprintf("release(%d)", id(second)))["is_final"], true)
	want(t, "what the fleet should run after that", running(), id(second))
	w.p.shown(t, []string{"already finalized"}, "release", "finalize", draft)
	w.p.shown(t, []string{"invalidated"}, "release", "invalidate", draft)
	want(t, "is_invalidated", w.api.one(t, fmt.Sprintf("release(%d)", id(second)))["is_invalidated"], true)
	want(t, "what the fleet should run without the invalid one", running(), id(first))
	w.p.balena(t, "release", "validate", fmt.Sprint(id(second)))
	want(t, "is_invalidated", w.api.one(t, fmt.Sprintf("release(%d)", id(second)))["is_invalidated"], false)
	want(t, "what the fleet should run with the valid one", running(), id(second))

	w.p.balena(t, "tag", "set", "stage", "beta", "--release", commit)
	w.p.shown(t, []string{"stage", "beta"}, "tag", "list", "--release", commit)
	w.p.shown(t, []string{"stage=beta"}, "release", commit)
	w.p.balena(t, "tag", "rm", "stage", "--release", fmt.Sprint(id(first)))
	w.p.refused(t, "No tags found", "tag", "list", "--release", commit)

	w.p.balena(t, "fleet", "pin", "admin/pier", commit)
	want(t, "what the pinned fleet should run", running(), id(first))
	want(t, "should_track_latest_release", w.api.one(t, fmt.Sprintf("application(%d)", fleet))["should_track_latest_release"], false)
	w.p.shown(t, []string{"currently pinned to " + commit}, "fleet", "pin", "admin/pier")
	w.p.balena(t, "fleet", "track-latest", "admin/pier")
	want(t, "what the fleet should run when it tracks again", running(), id(second))

	assets(t, w, first)
}

func assets(t *testing.T, w *world, release map[string]any) {
	commit := release["commit"].(string)
	w.p.shown(t, []string{"No assets found"}, "release-asset", "list", commit)
	small := strings.Repeat("a small file\n", 100)
	// Above 5 MiB the SDK uploads in parts.
	big := strings.Repeat("0123456789abcdef", 6<<20/16)
	dir := w.p.write(t, "assets", map[string]string{"small.txt": small, "big.bin": big})
	w.p.shown(t, []string{"'notes' uploaded successfully"}, "release-asset", "upload", commit, filepath.Join(dir, "small.txt"), "--key", "notes")
	w.p.refused(t, "already exists", "release-asset", "upload", commit, filepath.Join(dir, "small.txt"), "--key", "notes")
	w.p.balena(t, "release-asset", "upload", commit, filepath.Join(dir, "big.bin"), "--key", "firmware")
	list := w.p.balena(t, "release-asset", "list", commit)
	got := row(t, list, "notes")
	want(t, "the small asset", []string{got[2], got[3], got[4]}, []string{"small.txt", "1.30", "KB"})
	got = row(t, list, "firmware")
	want(t, "the big asset", []string{got[2], got[3], got[4]}, []string{"big.bin", "6.29", "MB"})
	for key, text := range map[string]string{"notes": small, "firmware": big} {
		to := filepath.Join(dir, key+".back")
		w.p.shown(t, []string{"downloaded successfully"}, "release-asset", "download", commit, "--key", key, "--output", to)
		if read(t, to) != text {
			t.Errorf("%s came back changed", key)
		}
	}
	w.p.balena(t, "release-asset", "upload", commit, filepath.Join(dir, "big.bin"), "--key", "notes", "--overwrite")
	want(t, "the overwritten asset", row(t, w.p.balena(t, "release-asset", "list", commit), "notes")[2], "big.bin")
	w.p.balena(t, "release-asset", "delete", commit, "--key", "notes", "--yes")
	want(t, "the number of assets", len(w.api.rows(t, fmt.Sprintf("release_asset?$filter=release eq %d", id(release)))), 1)
}

func deploys(t *testing.T, w *world) {
	fleet := w.fleet(t, "loft")
	const name = "dunlin-test-deployed"
	if err := w.machine.Import(name, "not a program, but an image"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.machine.Remove(name); err != nil {
			t.Log(err)
		}
	})
	socket := strings.TrimPrefix(w.machine.Host, "unix://")
	w.p.shown(t, []string{"Deploy succeeded"}, "deploy", "admin/loft", name, "--docker", socket, "--release-tag", "how", "by hand", "--note", "from here")
	first := w.newest(t, fleet)
	want(t, "the release", []any{first["status"], first["source"], first["note"], len(first["release_tag"].([]any))}, []any{"success", "local", "from here", 1})
	w.stored(t, first)
	want(t, "what the fleet should run", id(w.api.one(t, fmt.Sprintf("application(%d)", fleet))["should_be_running__release"]), id(first))

	dir := w.p.write(t, "loft", map[string]string{
		"docker-compose.yml": "services:\n  door:\n    build: ./door\n    labels:\n      colour: green\n  bell:\n    build: ./bell\n",
		"door/Dockerfile":    "FROM scratch\nCOPY file /file\n", "door/file": "a file",
		"bell/Dockerfile": "FROM scratch\nCOPY file /file\n", "bell/file": "another file",
	})
	w.p.shown(t, []string{"Deploy succeeded"}, "deploy", "admin/loft", "--source", dir, "--build", "--docker", socket, "--draft")
	second := w.newest(t, fleet)
	want(t, "the draft of two services", []any{second["status"], second["is_final"], len(second["release_image"].([]any))}, []any{"success", false, 2})
	w.stored(t, second)
	want(t, "the labels", len(w.api.rows(t, fmt.Sprintf("image_label?$filter=label_name eq 'colour' and release_image/is_part_of__release eq %d", id(second)))), 1)
}

// stored looks whether the registry has the images of a release under the digests that the release names.
func (w *world) stored(t testing.TB, release map[string]any) {
	t.Helper()
	for _, part := range release["release_image"].([]any) {
		image := part.(map[string]any)["image"].([]any)[0].(map[string]any)
		host, name, _ := strings.Cut(image["is_stored_at__image_location"].(string), "/")
		var token struct{ Token string }
		if err := json.Unmarshal(w.api.expect(t, 200, "GET", "/auth/v1/token?service="+host+"&scope=repository:"+name+":pull", nil), &token); err != nil {
			t.Fatal(err)
		}
		caller{w.s, token.Token}.expect(t, 200, "GET", "/v2/"+name+"/manifests/"+image["content_hash"].(string), nil)
	}
}
