package resource

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// text is a text of the body, "" if it is not there.
func (w *change) text(name string) string {
	s, _ := w.body[name].(string)
	return s
}

// id is a reference of the body; 0 is null, ok false is nothing said.
func (w *change) id(name string) (id int64, ok bool) {
	v, ok := w.body[name]
	id, _ = v.(int64)
	return id, ok
}

// named is what the body calls the thing, for the checks that name it.
func (w *change) named(field, otherwise string) string {
	if name, ok := w.body[field].(string); ok {
		return name
	}
	return otherwise
}

// checkVariable is the rule of environment variables. A change of the value alone does not say the name.
func checkVariable(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	return fleet.CheckVariable(w.named("name", "variable"), w.text("value"))
}

// checkConfigVariable is the rule of config variables.
func checkConfigVariable(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	if _, ok := w.body["name"]; !ok {
		return fleet.CheckVariable("variable", w.text("value"))
	}
	return fleet.CheckConfigVariable(w.text("name"), w.text("value"))
}

// checkTag is the rule of tags.
func checkTag(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	return fleet.CheckTag(w.named("tag_key", "tag"), w.text("value"))
}

// describeKey is the rule of what may be said of an API key (protocol §6.5, limits).
func describeKey(_ context.Context, w *change) error {
	if len(w.text("name")) > 50 || len(w.text("description")) > 150 {
		return fault.New(fault.Invalid, "an API key's name has at most 50 bytes, its description at most 150")
	}
	return nil
}

// addSSHKey is the rule of SSH keys: a user adds them for himself, and no key belongs to two.
func addSSHKey(ctx context.Context, w *change) error {
	if w.verb != create {
		return nil
	}
	if _, ok := w.body["user"]; !ok {
		w.body["user"] = w.actor.ID
	}
	title := strings.TrimSpace(w.text("title"))
	if title == "" || len(title) > 255 {
		return fault.New(fault.Invalid, "an SSH key's title has 1 to 255 bytes")
	}
	if w.SSHFingerprint == nil {
		return fault.New(fault.Unavailable, "this server takes no SSH keys")
	}
	key, fingerprint, err := w.SSHFingerprint(w.text("public_key"))
	if err != nil {
		return err
	}
	taken, err := store.SSHKeyTaken(ctx, w.tx, fingerprint)
	if err != nil {
		return err
	}
	if taken {
		return fault.New(fault.Conflict, `"public_key" must be unique.`).WithHint("the key is known to this server already; use another one")
	}
	w.body["title"], w.body["public_key"] = title, key
	w.columns["fingerprint"] = fingerprint
	return nil
}

// editFleet is the rule of fleets before they are written.
func editFleet(ctx context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	if name, ok := w.body["app_name"]; ok {
		if err := fleet.CheckFleetName(name.(string)); err != nil {
			return err
		}
	}
	if w.verb == create {
		return newFleet(ctx, w)
	}
	for _, id := range w.ids {
		f, err := store.FleetIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if name := w.text("app_name"); name != "" {
			handle, _, _ := strings.Cut(f.Slug, "/")
			w.columns["slug"] = fleet.Slug(handle, name)
		}
		if release, _ := w.id("should_be_running__release"); release != 0 {
			if err := w.runnable(ctx, release, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// newFleet gives a fleet what nobody says.
func newFleet(ctx context.Context, w *change) error {
	organization, _ := w.id("organization")
	handle, err := store.Handle(ctx, w.tx, organization)
	if err != nil {
		return err
	}
	w.columns["slug"] = fleet.Slug(handle, w.text("app_name"))
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	w.columns["uuid"] = fleet.NewUUID(random)
	switch w.named("is_of__class", "fleet") {
	case "fleet", "app", "block":
	default:
		return fault.New(fault.Invalid, "a fleet's class is fleet, app or block")
	}
	if _, ok := w.body["application_type"]; !ok {
		if w.columns["application_type"], err = store.DefaultApplicationType(ctx, w.tx); err != nil {
			return err
		}
	}
	w.columns["actor"], err = store.NewActor(ctx, w.tx, "application")
	return err
}

// followFleet is the rule of fleets after they are written.
func followFleet(ctx context.Context, w *change) error {
	if track, _ := w.body["should_track_latest_release"].(bool); track && w.verb == update {
		for _, id := range w.ids {
			if _, err := store.FollowLatest(ctx, w.tx, id, w.now); err != nil {
				return err
			}
		}
	}
	return nil
}

// runnable is nil if devices of a fleet may be told to run a release.
func (w *change) runnable(ctx context.Context, release, fleetID int64) error {
	r, err := store.ReleaseIn(ctx, w.tx, release)
	if err != nil {
		return err
	}
	if r.Fleet != fleetID {
		return fault.New(fault.Invalid, "the release is of another fleet").WithHint("choose a release of the device's own fleet")
	}
	if r.Status != fleet.Success {
		return fault.Newf(fault.Invalid, "the release cannot be run: its status is %s", r.Status).WithHint("choose one whose build succeeded")
	}
	return nil
}

// editDevice is the rule of devices before they are written.
func editDevice(ctx context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	if name, ok := w.body["device_name"]; ok {
		if err := fleet.CheckDeviceName(name.(string)); err != nil {
			return err
		}
	}
	to, moves := w.id("belongs_to__application")
	pin, _ := w.id("is_pinned_on__release")
	for _, id := range w.ids {
		d, err := store.DeviceIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		in := d.Fleet
		if moves {
			in = to
			f, err := store.FleetIn(ctx, w.tx, to)
			if err != nil {
				return err
			}
			if !fleet.MayRun(d.Arch, f.Arch) {
				return fault.Newf(fault.Invalid, "%s (%s) cannot run the images of %s (%s)", d.Name, d.Arch, f.Slug, f.Arch).
					WithHint("move it to a fleet of its own architecture")
			}
		}
		if pin != 0 {
			if err := w.runnable(ctx, pin, in); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveDevice is the rule of devices after they are written.
func moveDevice(ctx context.Context, w *change) error {
	if _, moves := w.id("belongs_to__application"); moves {
		return store.Settle(ctx, w.tx, w.ids, w.now)
	}
	return nil
}

// editRelease is the rule of releases before they are written: finalizing and cancelling are more than a column.
func editRelease(ctx context.Context, w *change) error {
	final, finalizes := w.body["is_final"].(bool)
	status, ends := w.body["status"].(string)
	if ends && status != string(fleet.Cancelled) {
		return fault.New(fault.Invalid, "a release can be cancelled; every other status is the build's to say")
	}
	delete(w.body, "status")
	for _, id := range w.ids {
		r, err := store.ReleaseIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		switch {
		case finalizes && !final && !r.Draft():
			return fault.New(fault.Conflict, "a final release cannot be a draft again")
		case finalizes && final && r.Status != fleet.Success:
			// Of a running one the version is not known yet, and the version decides the revision.
			return fault.Newf(fault.Conflict, "the release cannot be finalized: its status is %s", r.Status)
		case finalizes && final:
			if err := store.FinalizeRelease(ctx, w.tx, id, w.now); err != nil {
				return err
			}
		}
		if ends {
			if r.Status.Ended() {
				return fault.Newf(fault.Conflict, "only a running release can be cancelled; this one's status is %s", r.Status)
			}
			if err := store.CancelRelease(ctx, w.tx, id, w.now); err != nil {
				return err
			}
			w.cancelled = append(w.cancelled, id)
		}
	}
	w.columns["update_timestamp"] = w.now
	return nil
}

// followRelease is the rule of releases after they are written: the fleet may now have another latest.
func followRelease(ctx context.Context, w *change) error {
	_, finalizes := w.body["is_final"]
	_, validates := w.body["is_invalidated"]
	if !finalizes && !validates {
		return nil
	}
	for _, id := range w.ids {
		r, err := store.ReleaseIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		moved, err := store.FollowLatest(ctx, w.tx, r.Fleet, w.now)
		if err != nil {
			return err
		}
		if moved {
			w.touched.add(r.Fleet, 0)
		}
	}
	return nil
}
