package resource

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

const digest = "sha256:3e9ff7a3a056760c1213e45e90978a784bda2f6acbe79609e650e0c20049c83d"

// registry gives a world locations for images.
func (w *world) registry() {
	n := 0x5000
	w.Location = func() (string, string) {
		n++
		return fmt.Sprintf("v2/%032x", n), fmt.Sprintf("reg.test/v2/%032x", n)
	}
}

// made is the id of what post made; it must.
func (w *world) made(a fleet.Actor, request, body string) int64 {
	w.t.Helper()
	row, err := w.post(a, request, body)
	if err != nil {
		w.t.Fatalf("POST %s %s: %v", request, body, err)
	}
	return int64(row["id"].(float64))
}

// change is a PATCH that must do.
func (w *world) change(a fleet.Actor, request, body string) {
	w.t.Helper()
	if err := w.patch(a, request, body); err != nil {
		w.t.Fatalf("PATCH %s %s: %v", request, body, err)
	}
}

// refuses checks that a change is refused, as kind and in words that have want.
func (w *world) refuses(what string, err error, kind fault.Kind, want string) {
	w.t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(fault.Message(err), want) {
		w.t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// target is what the first device of a tenant is told to run.
func (w *world) target(x tenant) fleet.Parts {
	w.t.Helper()
	d, err := w.db.Device(context.Background(), x.uuid)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.db.Parts(context.Background(), d)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// deployed makes a running release of a tenant's fleet with one image of service main.
func (w *world) deployed(x tenant, commit, more string) (release, image int64) {
	w.t.Helper()
	release = w.made(x.developer, "release", x.in(`{"belongs_to__application":{application},"composition":{"services":{"main":{}}},"commit":"`+commit+`","status":"running"`+more+`}`))
	image = w.made(x.developer, "image", x.in(`{"is_a_build_of__service":{service},"status":"running"}`))
	w.made(x.developer, "image__is_part_of__release", fmt.Sprintf(`{"is_part_of__release":%d,"image":%d}`, release, image))
	return release, image
}

// succeed ends a deployed release well.
func (w *world) succeed(x tenant, release, image int64) {
	w.t.Helper()
	w.change(x.developer, fmt.Sprintf("image(%d)", image), `{"status":"success","push_timestamp":"2026-03-01T12:00:00Z","content_hash":"`+digest+`"}`)
	w.change(x.developer, fmt.Sprintf("release(%d)", release), `{"status":"success"}`)
}

// The rows are those of balena deploy, in its order and with its bodies (protocol §5.2).
func TestADeployGoesFromItsFirstRowToTheTargetOfADevice(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me, heard := w.tenants[0], w.listen()
	dev := me.developer
	w.change(me.user, me.in("device({second device})"), me.in(`{"is_pinned_on__release":{old release}}`))
	*heard = nil

	release := w.made(dev, "release", me.in(fmt.Sprintf(`{"is_created_by__user":%d,"belongs_to__application":{application},
		"composition":{"services":{"main":{"build":{"context":".","tags":["proj_main"]},"command":null,"privileged":true},"db":{"image":"redis","restart":"always"}},
			"networks":{"default":{"ipam":{}}},"volumes":{"data":{}}},
		"commit":"7da056feef6b5957d75a068a5aaffa79","status":"running","source":"local","start_timestamp":"2026-03-01T12:30:31.525Z","is_final":true,
		"semver":"1.4.0","contract":{"type":"sw.application","version":"1.4.0"}}`, dev.ID)))
	images, links, repositories := map[string]int64{}, map[string]int64{}, map[string]string{}
	for _, service := range []string{"main", "db"} {
		var id int64
		if rows := w.get(dev, me.in("service(application={application},service_name='"+service+"')")); len(rows) == 1 {
			id = int64(rows[0]["id"].(float64))
		} else {
			id = w.made(dev, "service", me.in(`{"application":{application},"service_name":"`+service+`"}`))
		}
		image, err := w.post(dev, "image", fmt.Sprintf(`{"is_a_build_of__service":%d,"status":"running","start_timestamp":"2026-03-01T12:30:31.539Z"}`, id))
		if err != nil {
			t.Fatal(err)
		}
		location, _ := image["is_stored_at__image_location"].(string)
		_, repositories[service], _ = strings.Cut(location, "/")
		if !regexp.MustCompile(`^v2/[0-9a-f]{32}$`).MatchString(repositories[service]) {
			t.Errorf("the image of %s is at %q", service, location)
		}
		images[service] = int64(image["id"].(float64))
		links[service] = w.made(dev, "image__is_part_of__release", fmt.Sprintf(`{"is_part_of__release":%d,"image":%d}`, release, images[service]))
	}
	w.made(dev, "image_label", fmt.Sprintf(`{"release_image":%d,"label_name":"io.balena.features.dbus","value":"1"}`, links["main"]))
	w.made(dev, "image_label", fmt.Sprintf(`{"release_image":%d,"label_name":"io.balena.features.firmware","value":"1"}`, links["main"]))
	w.made(dev, "image_environment_variable", fmt.Sprintf(`{"release_image":%d,"name":"B","value":"of the image"}`, links["main"]))
	w.made(dev, "image_profile", fmt.Sprintf(`{"release_image":%d,"profile_name":"cache"}`, links["db"]))
	w.get(dev, me.in("release?$select=id&$filter=belongs_to__application eq {application} and status eq 'success'&$expand=release_image($select=id;$expand=image($select=is_stored_at__image_location))&$orderby=id desc&$top=1"))

	for who, want := range map[int64]store.RepositoryAccess{
		dev.ID: {Pull: true, Push: true}, me.operator.ID: {Pull: true}, me.observer.ID: {Pull: true}, me.member.ID: {}, w.tenants[1].user.ID: {},
	} {
		got, err := w.db.UserRepositories(t.Context(), who, []string{repositories["main"]})
		if err != nil || got[repositories["main"]] != want {
			t.Errorf("user %d may %v %v, want %v", who, got, err, want)
		}
	}

	success := `{"end_timestamp":"2026-03-01T12:31:31.490Z","project_type":"Standard Dockerfile","build_log":"Step 1/2 : FROM scratch\n",
		"push_timestamp":"2026-03-01T12:31:31.708Z","status":"success","content_hash":"` + digest + `","dockerfile":"FROM scratch\n","image_size":"3"}`
	w.change(dev, fmt.Sprintf("image(%d)", images["main"]), success)
	w.refuses("a release without an image", w.patch(dev, fmt.Sprintf("release(%d)", release), `{"status":"success"}`), fault.Invalid, "the image of service db is running")
	w.change(dev, fmt.Sprintf("image(%d)", images["db"]), success)
	w.change(dev, fmt.Sprintf("image(%d)", images["db"]), success) // it got no answer
	if got, err := w.db.UserRepositories(t.Context(), dev.ID, []string{repositories["main"]}); err != nil || got[repositories["main"]].Push {
		t.Errorf("what is built may be pushed once more: %v %v", got, err)
	}
	if len(*heard) != 0 {
		t.Errorf("a running release woke %q", *heard)
	}
	w.change(dev, fmt.Sprintf("release(%d)", release), `{"status":"success","end_timestamp":"2026-03-01T12:31:31.725Z"}`)
	w.change(dev, fmt.Sprintf("release(%d)", release), `{"status":"success","end_timestamp":"2026-03-01T12:31:31.725Z"}`)
	if want := []string{me.in("{application}/{device}")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q: the second device is pinned", *heard, want)
	}
	w.made(dev, "release_tag", fmt.Sprintf(`{"value":"v","release":%d,"tag_key":"k"}`, release))
	w.change(dev, fmt.Sprintf("release(%d)", release), `{"note":"hello"}`)

	w.made(dev, "service_label", me.in(`{"service":{service},"label_name":"io.balena.features.firmware","value":"0"}`))
	w.change(dev, me.in("application_environment_variable({application_environment_variable})"), `{"value":"changed"}`)
	target, err := fleet.Target(w.target(me))
	if err != nil {
		t.Fatal(err)
	}
	app := target.Apps[fmt.Sprintf("%032x", 0xf0)]
	got := app.Releases["7da056feef6b5957d75a068a5aaffa79"]
	main := got.Services["main"]
	if len(got.Services) != 1 || main.Image != "reg.test/"+repositories["main"]+"@"+digest || main.ImageID != images["main"] || got.ID != release {
		t.Errorf("the device is to run %+v", got)
	}
	if diff := cmp.Diff(map[string]string{"A": "both", "B": "of the image"}, main.Environment); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"io.balena.features.dbus": "1", "io.balena.features.firmware": "0"}, main.Labels); diff != "" {
		t.Error(diff)
	}
	if string(main.Composition) != `{"command":null,"privileged":true}` || string(got.Volumes["data"]) != `{}` {
		t.Errorf("composed of %s, %s", main.Composition, got.Volumes)
	}
	w.made(dev, "application_profile", me.in(`{"application":{application},"activates__profile_name":"cache","on__application":{application}}`))
	if parts := w.target(me); len(parts.Services) != 2 {
		t.Errorf("with its profile the device runs %d services", len(parts.Services))
	}

	w.golden("release-deployed", dev, fmt.Sprintf("release(%d)", release))
	w.golden("image-deployed", dev, fmt.Sprintf("image(%d)", images["main"]))
}

// golden compares a row, with all that clients see of it, with a file. Numbers of rows and what is made up are left out.
func (w *world) golden(name string, a fleet.Actor, request string) {
	w.t.Helper()
	row := w.get(a, request)[0]
	for key, v := range row {
		switch v := v.(type) {
		case map[string]any:
			if _, ok := v["__id"]; ok {
				row[key] = map[string]any{"__id": "a number"}
			}
		case float64:
			if key == "id" {
				row[key] = "a number"
			}
		case string:
			row[key] = regexp.MustCompile(`[0-9a-f]{32}`).ReplaceAllString(v, "32 hex digits")
		}
	}
	got, err := json.MarshalIndent(row, "", "  ")
	if err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".json")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		w.t.Errorf("%s: %s", request, diff)
	}
}

func TestAReleaseIsMadeByDevelopersWithWhatARunNeeds(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	const whole = `{"belongs_to__application":{application},"commit":"c0ffee","composition":{},"start_timestamp":1772366400123,"status":"running"`
	row, err := w.post(me.developer, "release", me.in(whole+`,"is_created_by__user":{user}}`))
	if err != nil {
		t.Fatal(err)
	}
	if row["source"] != "local" || row["start_timestamp"] != "2026-03-01T12:00:00.123Z" || row["is_passing_tests"] != true ||
		fmt.Sprint(row["is_created_by__user"]) != fmt.Sprintf("map[__id:%d]", me.developer.ID) || row["end_timestamp"] != nil {
		t.Errorf("made %v", row)
	}
	for name, c := range map[string]struct {
		more, want string
		kind       fault.Kind
	}{
		"a commit that is a path":           {`,"commit":"../x"}`, "commit", fault.Invalid},
		"a composition that is a list":      {`,"composition":[]}`, "composition", fault.Invalid},
		"a service that is a text":          {`,"composition":{"services":{"main":"x"}}}`, "service main is not an object", fault.Invalid},
		"a service that is null":            {`,"composition":{"services":{"main":null}}}`, "service main is not an object", fault.Invalid},
		"a service with a name of a path":   {`,"composition":{"services":{"../x":{}}}}`, "no container can have", fault.Invalid},
		"volumes that are a list":           {`,"composition":{"volumes":["x"]}}`, "are not objects", fault.Invalid},
		"a status there is not":             {`,"status":"done"}`, "no status", fault.Invalid},
		"a source there is not":             {`,"source":"git"}`, "local or cloud", fault.Invalid},
		"a phase there is not":              {`,"phase":"old"}`, "phase", fault.Invalid},
		"a version that is none":            {`,"semver":"1"}`, "not a semantic version", fault.Invalid},
		"a contract's version that is none": {`,"contract":{"version":"x"}}`, "not a semantic version", fault.Invalid},
		"a contract that is a text":         {`,"contract":"x"}`, "a contract is a JSON object", fault.Invalid},
		"a variant that quotes":             {`,"variant":"\""}`, "variant", fault.Invalid},
		"a version of its own":              {`,"raw_version":"1.0.0"}`, "cannot be set", fault.Invalid},
		"a revision of its own":             {`,"revision":7}`, "cannot be set", fault.Invalid},
		"a time before time":                {`,"start_timestamp":-1}`, "milliseconds", fault.Invalid},
		"a NUL":                             {`,"composition":{"x":"\u0000"}}`, "NUL", fault.Invalid},
		"a success without a name":          {`,"release_version":" "}`, "release_version", fault.Invalid},
	} {
		key, _, _ := strings.Cut(strings.TrimPrefix(c.more, `,"`), `"`)
		body := regexp.MustCompile(`,"`+key+`":(\{\}|"[^"]*"|\d+)`).ReplaceAllString(whole, "") + c.more
		_, err := w.post(me.developer, "release", me.in(body))
		w.refuses(name, err, c.kind, c.want)
	}
	for who, a := range map[string]fleet.Actor{"operator": me.operator, "observer": me.observer, "member": me.member, "friend": me.friend, "device": me.device, "card": me.provisioning, "nobody": {}, "other": other.user} {
		if _, err := w.post(a, "release", me.in(whole+`}`)); !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", who, err)
		}
	}
	if _, err := w.post(me.developer, "release", me.in(`{"belongs_to__application":{application},"commit":"c0ffee"}`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("without a composition: %v", err)
	}
}

func TestARunningDeployIsItsDevelopersAndAFinishedOneNobodys(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me, heard := w.tenants[0], w.listen()
	release, image := w.deployed(me, "c0ffee", "")
	at := fmt.Sprintf("release(%d)", release)
	w.change(me.developer, at, `{"composition":{"services":{"main":{"restart":"no"}}},"semver":"2.0.0-rc.1+x","build_log":"…","end_timestamp":null}`)
	for who, a := range map[string]fleet.Actor{"operator": me.operator, "observer": me.observer, "device": me.device} {
		err := w.patch(a, at, `{"status":"cancelled"}`)
		if err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", who, err)
		}
	}
	w.refuses("pinned to it", w.patch(me.operator, me.in("device({device})"), fmt.Sprintf(`{"is_pinned_on__release":%d}`, release)), fault.Invalid, "its status is running")
	w.refuses("run by the fleet", w.patch(me.developer, me.in("application({application})"), fmt.Sprintf(`{"should_be_running__release":%d}`, release)), fault.Invalid, "its status is running")
	if got := w.get(me.developer, at)[0]; got["status"] != "running" || got["semver"] != "2.0.0-rc.1+x" {
		t.Errorf("it is %v", got)
	}
	w.succeed(me, release, image)
	if got := w.get(me.developer, at)[0]; got["raw_version"] != "2.0.0-rc.1+x" || got["is_final"] != true || got["end_timestamp"] == nil {
		t.Errorf("it is %v", got)
	}
	if want := []string{me.in("{application}/all")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
	for _, body := range []string{`{"status":"running"}`, `{"status":"failed"}`, `{"status":"cancelled"}`, `{"composition":{}}`, `{"contract":null}`,
		`{"semver":"3.0.0"}`, `{"variant":"dev"}`, `{"build_log":"x"}`, `{"start_timestamp":1}`, `{"end_timestamp":null}`, `{"status":"success","end_timestamp":null}`, `{"is_final":false}`} {
		if err := w.patch(me.developer, at, body); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", body, err)
		}
	}
	w.change(me.developer, at, `{"note":"n","known_issue_list":"k","phase":"current","is_passing_tests":true,"release_version":"spring","invalidation_reason":null}`)
	if err := w.patch(me.developer, fmt.Sprintf("release?$filter=id eq %d and status ne 'success'", release), `{"status":"cancelled","end_timestamp":"2026-03-01T13:00:00Z"}`); err != nil {
		t.Errorf("cancelled once it is a success: %v", err)
	}

	// The same commit can be tried again, but come out well once only.
	second, image := w.deployed(me, "c0ffee", "")
	w.change(me.developer, fmt.Sprintf("image(%d)", image), `{"status":"success","push_timestamp":1,"content_hash":"`+digest+`"}`)
	w.refuses("a second success", w.patch(me.developer, fmt.Sprintf("release(%d)", second), `{"status":"success"}`), fault.Conflict, `"belongs_to__application" and "commit" must be unique.`)
	w.change(me.developer, fmt.Sprintf("release?$filter=id eq %d and status ne 'success'", second), `{"status":"cancelled","end_timestamp":"2026-03-01T13:00:00Z"}`)
	third, _ := w.deployed(me, "c0ffee", "")
	w.change(me.developer, fmt.Sprintf("release(%d)", third), `{"status":"failed","end_timestamp":"2026-03-01T13:00:00Z","build_log":"it broke"}`)
	if got := w.get(me.developer, fmt.Sprintf("image?$filter=release_image/any(r:r/is_part_of__release eq %d)", third)); got[0]["status"] != "failed" {
		t.Errorf("the image of a failed release is %v", got)
	}
	w.refuses("a release_version twice", func() error {
		r, i := w.deployed(me, "decaf", `,"release_version":"spring"`)
		w.change(me.developer, fmt.Sprintf("image(%d)", i), `{"status":"success","push_timestamp":1,"content_hash":"`+digest+`"}`)
		return w.patch(me.developer, fmt.Sprintf("release(%d)", r), `{"status":"success"}`)
	}(), fault.Conflict, `"release_version" must be unique.`)
}

func TestADraftIsFollowedOnceItIsFinal(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me, heard := w.tenants[0], w.listen()
	release, image := w.deployed(me, "c0ffee", `,"is_final":false,"semver":"1.1.1"`)
	at := fmt.Sprintf("release(%d)", release)
	w.succeed(me, release, image)
	if got := w.get(me.developer, at)[0]; got["is_final"] != false || !regexp.MustCompile(`^1\.1\.1-\d{13}$`).MatchString(got["raw_version"].(string)) {
		t.Errorf("the draft is %v %v", got["is_final"], got["raw_version"])
	}
	if len(*heard) != 0 {
		t.Errorf("a draft woke %q", *heard)
	}
	w.change(me.developer, at, `{"is_final":true}`)
	if got := w.get(me.developer, at)[0]; got["is_final"] != true || got["raw_version"] != "1.1.1" || got["is_finalized_at__date"] == nil {
		t.Errorf("the final one is %v", got)
	}
	if want := []string{me.in("{application}/all")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
	again, image := w.deployed(me, "decaf", `,"is_final":false,"contract":{"version":"1.1.1"}`)
	w.change(me.developer, fmt.Sprintf("release(%d)", again), `{"is_final":true}`)
	w.succeed(me, again, image)
	if got := w.get(me.developer, fmt.Sprintf("release(%d)?$select=raw_version,revision", again))[0]; got["raw_version"] != "1.1.1+rev1" || got["revision"] != 1.0 {
		t.Errorf("the second of that version is %v", got)
	}
}

// The stock SDK's own suite makes releases that are successes from the start, and puts images into them afterwards.
func TestAReleaseMadeAsASuccessTakesImagesUntilItIsGivenItsEnd(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me, heard := w.tenants[0], w.listen()
	release := w.made(me.developer, "release", me.in(`{"belongs_to__application":{application},"commit":"new-release-commit","status":"success","source":"cloud","composition":{},"start_timestamp":1803902400000}`))
	if want := []string{me.in("{application}/all")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
	*heard = nil
	image := w.made(me.developer, "image", me.in(`{"is_a_build_of__service":{service},"project_type":"dockerfile","build_log":"log","start_timestamp":"2017-01-01T00:00:00Z",
		"push_timestamp":"2017-01-01T00:00:00Z","status":"success","content_hash":"sha256:jkl0000000000000000000000000000000000000000000000000000000000000"}`))
	running := w.made(me.developer, "image", me.in(`{"is_a_build_of__service":{service}}`))
	_, err := w.post(me.developer, "image__is_part_of__release", fmt.Sprintf(`{"image":%d,"is_part_of__release":%d}`, running, release))
	w.refuses("an image that is not there", err, fault.Invalid, "the image of service main is running")
	w.made(me.developer, "image__is_part_of__release", fmt.Sprintf(`{"image":%d,"is_part_of__release":%d}`, image, release))
	if want := []string{me.in("{application}/all")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
	if p := w.target(me); p.Release.ID != release || len(p.Services) != 1 {
		t.Errorf("the device runs %+v", p)
	}
	w.change(me.developer, fmt.Sprintf("release(%d)", release), `{"status":"success","end_timestamp":"2026-03-01T13:00:00Z"}`)
	link := w.get(me.developer, fmt.Sprintf("release_image(image=%d,is_part_of__release=%d)", image, release))[0]["id"]
	w.refuses("afterwards", w.drop(me.developer, fmt.Sprintf("release_image(%v)", link)), fault.Conflict, "its status is success")
}

// It is the newest by its start that counts, and only one that is final, valid and passing its tests.
func TestAFleetThatTracksFollowsTheNewestGoodRelease(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me := w.tenants[0]
	running := func() int64 {
		return int64(w.get(me.user, me.in("application({application})?$select=should_be_running__release"))[0]["should_be_running__release"].(map[string]any)["__id"].(float64))
	}
	late, image := w.deployed(me, "late", `,"start_timestamp":"2126-03-02T00:00:00Z"`)
	w.succeed(me, late, image)
	if got := w.get(me.user, fmt.Sprintf("release(%d)?$select=start_timestamp", late))[0]["start_timestamp"]; got != "2026-03-01T13:00:00.123Z" {
		t.Errorf("one that begins in the future began at %v", got)
	}
	early, image := w.deployed(me, "early", `,"start_timestamp":"2026-03-01T12:30:00Z"`)
	heard := w.listen()
	w.succeed(me, early, image)
	if running() != late || len(*heard) != 0 {
		t.Errorf("the fleet runs %d, want %d, begun later; Changed was told %q", running(), late, *heard)
	}
	for _, c := range []struct {
		release int64
		body    string
		runs    int64
		wakes   bool
	}{
		{late, `{"is_passing_tests":false}`, early, true},
		{early, `{"note":"x"}`, early, false},
		{late, `{"is_passing_tests":true}`, late, true},
		{late, `{"is_invalidated":true,"invalidation_reason":"smoke"}`, early, true},
		{early, `{"is_invalidated":true}`, me.ids["release"], true},
		{late, `{"is_invalidated":false}`, late, true},
		{early, `{"is_invalidated":false}`, late, false},
	} {
		*heard = nil
		w.change(me.developer, fmt.Sprintf("release(%d)", c.release), c.body)
		if running() != c.runs || (len(*heard) > 0) != c.wakes {
			t.Errorf("after %s of %d the fleet runs %d, want %d; Changed was told %q", c.body, c.release, running(), c.runs, *heard)
		}
	}
	app := me.in("application({application})")
	*heard = nil
	w.change(me.developer, app, fmt.Sprintf(`{"should_be_running__release":%d,"should_track_latest_release":false}`, late))
	if len(*heard) != 0 {
		t.Errorf("pinned where it is, it woke %q", *heard)
	}
	w.change(me.developer, fmt.Sprintf("release(%d)", late), `{"is_invalidated":true}`)
	if running() != late || len(*heard) != 0 {
		t.Errorf("a pinned fleet moved to %d, and woke %q", running(), *heard)
	}
	w.change(me.developer, app, `{"should_track_latest_release":true}`)
	if running() != early || len(*heard) != 1 {
		t.Errorf("tracking again it runs %d, and woke %q", running(), *heard)
	}
}

func TestAReleaseThatSomebodyRunsOrBuildsIsNotDeleted(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	w.refuses("the fleet's", w.drop(me.developer, me.in("release({release})")), fault.Conflict, "is to run it")
	w.refuses("one being built", w.drop(me.developer, me.in("release({running release})")), fault.Conflict, "being built")
	w.change(me.operator, me.in("device({device})"), me.in(`{"is_pinned_on__release":{old release}}`))
	w.refuses("a device's", w.drop(me.developer, me.in("release({old release})")), fault.Conflict, "is to run it")
	w.change(me.developer, me.in("application({application})"), me.in(`{"should_be_running__release":{old release},"should_track_latest_release":false}`))
	w.refuses("an operator", w.drop(me.operator, me.in("release({release})")), fault.Denied, "not delete it")
	if len(w.get(me.user, me.in("release({release})"))) != 1 {
		t.Error("an operator deleted it")
	}
	if err := w.drop(me.developer, me.in("release({release})")); err != nil {
		t.Fatal(err)
	}
	if n := len(w.get(me.user, me.in("image({image})"))); n != 0 {
		t.Errorf("%d images of it are left", n)
	}
}
