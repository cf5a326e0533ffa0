package resource

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestAnImageIsOfOnesOwnFleetAndIsWrittenWhileItIsMade(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	_, err := w.post(me.developer, "image", me.in(`{"is_a_build_of__service":{service}}`))
	w.refuses("without a registry", err, fault.Unavailable, "takes no images")
	w.registry()
	for name, c := range map[string]struct {
		actor      fleet.Actor
		body, want string
		kind       fault.Kind
	}{
		"by an operator":             {me.operator, me.in(`{"is_a_build_of__service":{service}}`), "", fault.Denied},
		"of another's service":       {me.developer, other.in(`{"is_a_build_of__service":{service}}`), "no service", fault.Denied},
		"where the client wants it":  {me.developer, me.in(`{"is_a_build_of__service":{service},"is_stored_at__image_location":"reg.test/v2/1"}`), "cannot be set", fault.Invalid},
		"a success without a push":   {me.developer, me.in(`{"is_a_build_of__service":{service},"status":"success","content_hash":"` + digest + `"}`), "push_timestamp", fault.Invalid},
		"a success without a digest": {me.developer, me.in(`{"is_a_build_of__service":{service},"status":"success","push_timestamp":1}`), "content_hash", fault.Invalid},
		"a digest that is none":      {me.developer, me.in(`{"is_a_build_of__service":{service},"content_hash":"latest"}`), "no digest", fault.Invalid},
		"a digest that runs on":      {me.developer, me.in(`{"is_a_build_of__service":{service},"content_hash":"` + digest + `\nx"}`), "no digest", fault.Invalid},
		"a negative size":            {me.developer, me.in(`{"is_a_build_of__service":{service},"image_size":"-3"}`), "not negative", fault.Invalid},
		"a size that is a word":      {me.developer, me.in(`{"is_a_build_of__service":{service},"image_size":"big"}`), "whole number", fault.Invalid},
	} {
		_, err := w.post(c.actor, "image", c.body)
		w.refuses(name, err, c.kind, c.want)
	}
	release, image := w.deployed(me, "c0ffee", "")
	at := fmt.Sprintf("image(%d)", image)
	w.refuses("an operator", w.patch(me.operator, at, `{"status":"failed"}`), fault.Denied, "may look at this image")
	if err := w.patch(other.user, at, `{"status":"failed"}`); err != nil {
		t.Errorf("to another it is as if it were not there: %v", err)
	}
	if got := w.get(me.developer, at)[0]["status"]; got != "running" {
		t.Errorf("somebody else made it %v", got)
	}
	w.succeed(me, release, image)
	for _, body := range []string{`{"status":"running"}`, `{"content_hash":"sha256:` + strings.Repeat("0", 64) + `"}`, `{"build_log":"x"}`,
		`{"status":"success","content_hash":"sha256:` + strings.Repeat("0", 64) + `"}`, `{"status":"success","contract":{}}`} {
		w.refuses(body, w.patch(me.developer, at, body), fault.Conflict, "cannot be changed")
	}
	// The server builds the fixture's image.
	w.refuses("of a push", w.patch(me.developer, me.in("image({image})"), `{"status":"success"}`), fault.Invalid, "the build's to write")
}

func TestAReleaseIsMadeOfImagesOfItsOwnWhileItRuns(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me := w.tenants[0]
	garden := w.secondFleet("testpi-64")
	theirs := w.made(me.developer, "service", fmt.Sprintf(`{"application":%d,"service_name":"main"}`, garden))
	foreign := w.made(me.developer, "image", fmt.Sprintf(`{"is_a_build_of__service":%d}`, theirs))
	release, image := w.deployed(me, "c0ffee", "")
	again := w.made(me.developer, "image", me.in(`{"is_a_build_of__service":{service}}`))
	for name, c := range map[string]struct {
		release, image int64
		want           string
		kind           fault.Kind
	}{
		"twice":                     {release, image, "must be unique", fault.Conflict},
		"a second one of a service": {release, again, "an image of service main already", fault.Conflict},
		"of another fleet":          {release, foreign, "of another fleet", fault.Invalid},
		"of a push":                 {release, me.ids["image"], "that this server builds", fault.Invalid},
		"into a push":               {me.ids["running release"], again, "the build's to say", fault.Invalid},
		"into a finished push":      {me.ids["old release"], again, "the build's to say", fault.Invalid},
	} {
		_, err := w.post(me.developer, "release_image", fmt.Sprintf(`{"is_part_of__release":%d,"image":%d}`, c.release, c.image))
		w.refuses(name, err, c.kind, c.want)
	}
	link := w.get(me.developer, fmt.Sprintf("release_image(image=%d,is_part_of__release=%d)?$select=id", image, release))[0]["id"]
	label := w.made(me.developer, "image_label", fmt.Sprintf(`{"release_image":%v,"label_name":"a","value":"1"}`, link))
	w.change(me.developer, fmt.Sprintf("image_label(%d)", label), `{"value":"2"}`)
	for name, c := range map[string]struct{ resource, body string }{
		"a variable's name":      {"image_environment_variable", `{"release_image":%v,"name":"a b","value":"1"}`},
		"an empty label":         {"image_label", `{"release_image":%v,"label_name":" ","value":"1"}`},
		"a profile that is none": {"image_profile", `{"release_image":%v,"profile_name":"a b"}`},
	} {
		_, err := w.post(me.developer, c.resource, fmt.Sprintf(c.body, link))
		w.refuses(name, err, fault.Invalid, "cannot be")
	}
	w.succeed(me, release, image)
	at := fmt.Sprintf("image_label(%d)", label)
	w.refuses("a label of a success", w.patch(me.developer, at, `{"value":"3"}`), fault.Conflict, "its status is success")
	w.refuses("its removal", w.drop(me.developer, at), fault.Conflict, "its status is success")
	_, err := w.post(me.developer, "image_label", fmt.Sprintf(`{"release_image":%v,"label_name":"b","value":"1"}`, link))
	w.refuses("another one", err, fault.Conflict, "its status is success")
	w.refuses("an image less", w.drop(me.developer, fmt.Sprintf("release_image(%v)", link)), fault.Conflict, "its status is success")
	_, err = w.post(me.developer, "image_label", me.in(`{"release_image":{release_image},"label_name":"b","value":"1"}`))
	w.refuses("of a push", err, fault.Invalid, "the build's to say")
}

func TestAFleetOfOneContainerTakesReleasesOfOneService(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me := w.tenants[0]
	if err := w.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE application_types SET supports_multicontainer = FALSE`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	release, first := w.deployed(me, "c0ffee", "")
	service := w.made(me.developer, "service", me.in(`{"application":{application},"service_name":"db"}`))
	image := w.made(me.developer, "image", fmt.Sprintf(`{"is_a_build_of__service":%d}`, service))
	_, err := w.post(me.developer, "release_image", fmt.Sprintf(`{"is_part_of__release":%d,"image":%d}`, release, image))
	w.refuses("a second service", err, fault.Invalid, "one service only")
	w.succeed(me, release, first)
}

func TestAnAssetIsARowUntilItIsUploaded(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	w.AssetLink = func(a fleet.Actor) (string, string) { return "https://api.test/assets/", `?for="` + a.Name + `"` }
	row, err := w.post(me.developer, "release_asset", me.in(`{"release":{release},"asset_key":"logs","asset":null}`))
	if err != nil || row["asset"] != nil {
		t.Fatalf("made %v %v", row, err)
	}
	got := w.get(me.observer, me.in("release({release})?$select=id&$expand=release_asset($select=id,asset_key,asset;$orderby=id asc)"))[0]["release_asset"].([]any)
	if len(got) != 2 {
		t.Fatalf("there are %v", got)
	}
	want := map[string]any{"filename": "notes.txt", "content_type": "text/plain", "size": 4.0, "checksum": "sha256:00",
		"href": fmt.Sprintf(`https://api.test/assets/%d?for="acme-observer"`, me.ids["release_asset"])}
	if diff := cmp.Diff(want, got[0].(map[string]any)["asset"]); diff != "" {
		t.Error(diff)
	}
	_, err = w.post(me.developer, "release_asset", me.in(`{"release":{release},"asset_key":"logs"}`))
	w.refuses("twice", err, fault.Conflict, `"release" and "asset_key" must be unique.`)
	_, err = w.post(me.developer, "release_asset", me.in(`{"release":{release},"asset_key":"x","asset":{"href":"https://evil.test"}}`))
	w.refuses("with a link", err, fault.Invalid, "is not JSON")
	_, err = w.post(me.developer, "release_asset", me.in(`{"release":{release},"asset_key":""}`))
	w.refuses("without a key", err, fault.Invalid, "1 to 255")
	_, err = w.post(me.operator, "release_asset", me.in(`{"release":{release},"asset_key":"x"}`))
	w.refuses("by an operator", err, fault.Denied, "")
	if err := w.drop(me.developer, me.in("release_asset(release={release},asset_key='logs')")); err != nil {
		t.Error(err)
	}
}

func TestAServiceKeepsTheNameThatReleasesCallItBy(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me, other := w.tenants[0], w.tenants[1]
	at := me.in("service({service})")
	w.refuses("renamed", w.patch(me.developer, at, `{"service_name":"web"}`), fault.Conflict, "releases call it so")
	w.refuses("deleted", w.drop(me.developer, at), fault.Conflict, "1 releases have it")
	heard := w.listen()
	row, err := w.post(me.developer, "service", me.in(`{"application":{application},"service_name":"db"}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(*heard) != 0 {
		t.Errorf("a service nobody runs woke %q", *heard)
	}
	if n := len(w.get(me.observer, fmt.Sprintf("service_install?$filter=installs__service eq %v", row["id"]))); n != 2 {
		t.Errorf("%d of 2 devices know it", n)
	}
	w.change(me.developer, fmt.Sprintf("service(%v)", row["id"]), `{"service_name":"__proto__"}`)
	_, err = w.post(me.developer, "service", me.in(`{"application":{application},"service_name":"main"}`))
	w.refuses("twice", err, fault.Conflict, `"application" and "service_name" must be unique.`)
	_, err = w.post(me.developer, "service", me.in(`{"application":{application},"service_name":"a/b"}`))
	w.refuses("a path", err, fault.Invalid, "cannot be a service's name")
	_, err = w.post(me.operator, "service", me.in(`{"application":{application},"service_name":"cache"}`))
	w.refuses("by an operator", err, fault.Denied, "")
	_, err = w.post(me.developer, "service", other.in(`{"application":{application},"service_name":"cache"}`))
	w.refuses("in another's fleet", err, fault.Denied, "")
	if err := w.drop(me.developer, fmt.Sprintf("service(%v)", row["id"])); err != nil {
		t.Error(err)
	}

	made, err := w.post(me.developer, "service_environment_variable", me.in(`{"application":{application},"service_name":"main","name":"LEVEL","value":"1"}`))
	if err != nil || fmt.Sprint(made["service"]) != fmt.Sprintf("map[__id:%d]", me.ids["service"]) {
		t.Errorf("by fleet and name: %v %v", made, err)
	}
	for name, body := range map[string]string{
		"of another":                       other.in(`{"application":{application},"service_name":"main","name":"LEVEL","value":"1"}`),
		"of another, a name that is there": other.in(`{"application":{application},"service_name":"main","name":"A","value":"1"}`),
		"of none":                          me.in(`{"application":{application},"service_name":"none","name":"LEVEL","value":"1"}`),
		"without one":                      `{"name":"LEVEL","value":"1"}`,
		"half a name":                      `{"service_name":"main","name":"LEVEL","value":"1"}`,
		"of none by id":                    `{"service":999999,"name":"LEVEL","value":"1"}`,
	} {
		if _, err := w.post(me.developer, "service_environment_variable", body); !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
