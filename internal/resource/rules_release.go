package resource

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// A release is either this server's to build, of a push, or deployed: whoever builds it elsewhere makes the rows
// (protocol §5.2). People say of both what they think of them; what is in one is said by who builds it, while it runs.

// building are the fields of a release that only who builds it may write, and only while it runs.
const building = "composition contract semver variant start_timestamp build_log"

// editRelease is the rule of releases before they are written.
func editRelease(ctx context.Context, w *change) error {
	if w.verb == remove {
		return dropReleases(ctx, w)
	}
	if err := w.checkRelease(); err != nil {
		return err
	}
	w.columns["update_timestamp"] = w.now
	if w.verb == create {
		return newRelease(w)
	}
	for _, id := range w.ids {
		r, err := store.ReleaseIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if err := w.changeRelease(ctx, r); err != nil {
			return err
		}
	}
	delete(w.body, "status")
	if len(w.cancelled) > 0 {
		delete(w.body, "end_timestamp") // of the server's own builds it is the server's clock that counts
	}
	return nil
}

// checkRelease checks what the body says, whatever release it is about.
func (w *change) checkRelease() error {
	if commit, ok := w.body["commit"].(string); ok {
		if err := fleet.CheckCommit(commit); err != nil {
			return err
		}
	}
	if composition, ok := w.body["composition"].(string); ok {
		if err := fleet.CheckComposition([]byte(composition)); err != nil {
			return err
		}
	}
	if status, ok := w.body["status"].(string); ok {
		if err := fleet.CheckStatus(fleet.Status(status)); err != nil {
			return err
		}
	}
	if phase, ok := w.body["phase"].(string); ok {
		if err := fleet.CheckPhase(phase); err != nil {
			return err
		}
	}
	// A clock that is ahead must not keep a fleet from following what comes later.
	if start, ok := w.body["start_timestamp"].(int64); ok {
		w.body["start_timestamp"] = min(start, w.now)
	}
	if version, ok := w.body["release_version"].(string); ok && (strings.TrimSpace(version) == "" || len(version) > 255) {
		return fault.New(fault.Invalid, "a release_version has 1 to 255 bytes")
	}
	return w.version()
}

// version reads the version that the body gives, or that its contract does.
func (w *change) version() error {
	given, ok := w.body["semver"].(string)
	contract, said := w.body["contract"].(string)
	if !ok && said {
		var c struct{ Version *string }
		if json.Unmarshal([]byte(contract), &c) != nil {
			return fault.New(fault.Invalid, "a contract is a JSON object")
		}
		if c.Version != nil {
			given, ok = *c.Version, true
		}
	}
	if ok {
		v, err := fleet.ParseVersion(given)
		if err != nil {
			return err
		}
		w.columns["semver_major"], w.columns["semver_minor"], w.columns["semver_patch"] = v.Major, v.Minor, v.Patch
		w.columns["semver_prerelease"], w.columns["semver_build"] = v.Prerelease, v.Build
	}
	if variant := w.text("variant"); variant != "" {
		if err := fleet.CheckVariant(variant); err != nil {
			return err
		}
	}
	return nil
}

// newRelease gives a release that is built elsewhere what nobody says.
func newRelease(w *change) error {
	w.columns["deployed"] = true
	if w.actor.Kind == fleet.UserActor {
		w.columns["created_by"] = w.actor.ID
	}
	if _, ok := w.body["status"]; !ok {
		w.body["status"] = string(fleet.Running)
	}
	switch w.named("source", "local") {
	case "local", "cloud":
	default:
		return fault.New(fault.Invalid, "a release's source is local or cloud")
	}
	if _, ok := w.body["source"]; !ok {
		w.body["source"] = "local"
	}
	if _, ok := w.body["start_timestamp"]; !ok {
		w.body["start_timestamp"] = w.now
	}
	if final, ok := w.body["is_final"].(bool); ok {
		w.columns["draft"] = !final
	}
	return nil
}

// changeRelease checks what is wanted of one release, and does what is more than a column.
func (w *change) changeRelease(ctx context.Context, r fleet.Release) error {
	running := r.Deployed && r.Status == fleet.Running
	for name := range w.body {
		if called(building, name) && !running {
			return w.notBuilding(r, name)
		}
	}
	status, ends := w.body["status"].(string)
	// Without its end a success would be open again.
	if end, ok := w.body["end_timestamp"]; ok && !running && (end == nil || !ends && !open(r)) {
		return w.notBuilding(r, "end_timestamp")
	}
	if ends {
		if err := w.endRelease(ctx, r, fleet.Status(status)); err != nil {
			return err
		}
	}
	final, said := w.body["is_final"].(bool)
	switch {
	case !said:
		return nil
	case running:
		w.columns["draft"] = !final
		return nil
	case !final && !r.Draft():
		return fault.New(fault.Conflict, "a final release cannot be a draft again")
	case final && r.Status != fleet.Success:
		// Of one that this server builds the version is not known yet, and the version decides the revision.
		return fault.Newf(fault.Conflict, "the release cannot be finalized: its status is %s", r.Status)
	case final:
		return w.explain(store.FinalizeRelease(ctx, w.tx, r.ID, w.now))
	}
	return nil
}

// open reports whether images can still be put into a deployed release: while it runs, and if it was made as a success
// until it is given its end.
func open(r fleet.Release) bool {
	return r.Deployed && (r.Status == fleet.Running || r.Status == fleet.Success && r.Ended.IsZero())
}

// notBuilding says why a field of a release cannot be written.
func (w *change) notBuilding(r fleet.Release, field string) error {
	if !r.Deployed {
		return fault.Newf(fault.Invalid, "%s of a release that this server builds is the build's to say", field).
			WithHint("a release can be cancelled, noted, tagged, finalized and invalidated")
	}
	return fault.Newf(fault.Conflict, "%s of a release cannot be changed: its status is %s", field, r.Status).
		WithHint("deploy another release")
}

// endRelease gives a running release its end. To say once more how one ended is no harm: a client that got no answer
// asks again.
func (w *change) endRelease(ctx context.Context, r fleet.Release, status fleet.Status) error {
	switch {
	case r.Deployed && status == r.Status:
		return nil
	case !r.Deployed && status != fleet.Cancelled:
		return fault.New(fault.Invalid, "a release that this server builds can be cancelled; every other status is the build's to say")
	case r.Status.Ended() && status == fleet.Cancelled:
		return fault.Newf(fault.Conflict, "only a running release can be cancelled; this one's status is %s", r.Status)
	case r.Status.Ended():
		return w.notBuilding(r, "status")
	case status == fleet.Success:
		if err := w.complete(ctx, r); err != nil {
			return err
		}
		w.note(r.ID, 1)
		return nil
	}
	if !r.Deployed {
		w.cancelled = append(w.cancelled, r.ID)
	}
	return store.EndRelease(ctx, w.tx, r.ID, status, w.now)
}

// complete is nil if all that a release is made of is there.
func (w *change) complete(ctx context.Context, r fleet.Release) error {
	images, err := store.ReleaseImages(ctx, w.tx, r.ID)
	if err != nil {
		return err
	}
	for _, i := range images {
		if i.Status != fleet.Success {
			return fault.Newf(fault.Invalid, "the release cannot be a success: the image of service %s is %s", i.ServiceName, i.Status).
				WithHint("push the image and say so first, or end the release as failed")
		}
	}
	return w.several(ctx, r.Fleet, len(images))
}

// several is nil if a release of a fleet may have so many services.
func (w *change) several(ctx context.Context, fleetID int64, services int) error {
	if services < 2 {
		return nil
	}
	may, err := store.Multicontainer(ctx, w.tx, fleetID)
	if err != nil {
		return err
	}
	if !may {
		return fault.New(fault.Invalid, "a release of this fleet can have one service only: its application type does not support more")
	}
	return nil
}

// followRelease is the rule of releases after they are written: the fleet may now have another latest.
func followRelease(ctx context.Context, w *change) error {
	if w.verb == remove {
		for _, f := range w.memo {
			if err := store.DropUnusedImages(ctx, w.tx, f); err != nil {
				return err
			}
		}
		return nil
	}
	concerns := w.verb == create || len(w.memo) > 0
	for _, name := range []string{"is_final", "is_invalidated", "is_passing_tests"} {
		_, said := w.body[name]
		concerns = concerns || said
	}
	if !concerns {
		return nil
	}
	for _, id := range w.ids {
		r, err := store.ReleaseIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		switch {
		case w.memo[id] != 0:
			err = store.SucceedRelease(ctx, w.tx, r, w.now)
		case w.verb == create && r.Status == fleet.Success && !r.WantsDraft:
			err = store.FinalizeRelease(ctx, w.tx, id, w.now)
		}
		if err != nil {
			return w.explain(err)
		}
		moved, err := store.FollowLatest(ctx, w.tx, r.Fleet, w.now)
		if err != nil {
			return err
		}
		if moved {
			if err := w.follow(ctx, r.Fleet); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropReleases lets releases be deleted that nothing builds and nothing runs.
func dropReleases(ctx context.Context, w *change) error {
	for _, id := range w.ids {
		r, err := store.ReleaseIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if r.Status == fleet.Running && !r.Deployed {
			return fault.Newf(fault.Conflict, "release %s cannot be deleted: it is being built", r.Commit).WithHint("cancel it first")
		}
		followed, err := store.ReleaseFollowed(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if followed {
			return fault.Newf(fault.Conflict, "release %s cannot be deleted: its fleet or a device is to run it", r.Commit).
				WithHint("let them follow another one first")
		}
		w.note(id, r.Fleet)
	}
	return nil
}

// checkAsset is the rule of a release's files. What is in one comes by an upload, not in the row.
func checkAsset(_ context.Context, w *change) error {
	if asset := w.body["asset"]; asset != nil {
		return fault.New(fault.Invalid, "an asset's content is not JSON").WithHint("send it as multipart/form-data")
	}
	delete(w.body, "asset")
	if key, ok := w.body["asset_key"].(string); ok && (strings.TrimSpace(key) == "" || len(key) > 255) {
		return fault.New(fault.Invalid, "an asset_key has 1 to 255 bytes")
	}
	return nil
}

// assetObject is what clients see of an asset: null until it is uploaded. Of a file's name and type the upload lets no
// control characters through, so that quotes and backslashes are all there is to escape.
const assetObject = `(CASE WHEN {t}.filename IS NULL THEN NULL ELSE '{"filename":' || ` + textStart + `{t}.filename` + textEnd +
	` || ',"href":' || ` + textStart + `{asset before} || {t}.id || {asset after}` + textEnd +
	` || ',"size":' || {t}.size || ',"content_type":' || ` + textStart + `{t}.content_type` + textEnd +
	` || ',"checksum":' || ` + textStart + `{t}.checksum` + textEnd + ` || '}' END)`

const (
	textStart = `'"' || replace(replace(`
	textEnd   = `, '\', '\\'), '"', '\"') || '"'`
)

// asset is AssetLink, or nothing where there is none.
func (m *Model) asset(actor fleet.Actor) (before, after string) {
	if m.AssetLink == nil {
		return "", ""
	}
	return m.AssetLink(actor)
}
