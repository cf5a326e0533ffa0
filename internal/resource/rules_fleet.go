package resource

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// note keeps something of a row until it is written.
func (w *change) note(id, value int64) {
	if w.memo == nil {
		w.memo = map[int64]int64{}
	}
	w.memo[id] = value
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
	if err := w.repository(); err != nil {
		return err
	}
	if err := w.publish(ctx); err != nil {
		return err
	}
	if w.verb == create {
		return newFleet(ctx, w)
	}
	for _, id := range w.ids {
		f, err := store.FleetIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		w.note(id, f.Target)
		if err := w.rename(ctx, f); err != nil {
			return err
		}
		if release, _ := w.id("should_be_running__release"); release != 0 {
			if err := w.runnable(ctx, release, id); err != nil {
				return err
			}
		}
		if kind, ok := w.id("is_for__device_type"); ok {
			if err := w.retype(ctx, f, kind); err != nil {
				return err
			}
		}
		if updater, _ := w.id("is_updated_by__application"); updater == id {
			return fault.New(fault.Invalid, "a fleet cannot be updated by itself")
		}
	}
	return nil
}

// repository checks where a fleet's source is said to be: people will click on it.
func (w *change) repository() error {
	given := w.text("is_stored_at__repository_url")
	if given == "" {
		return nil
	}
	if u, err := url.Parse(given); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(given) > 2000 {
		return fault.New(fault.Invalid, "the address of a fleet's repository must begin with https:// or http://")
	}
	return nil
}

// publish lets nobody but an administrator say that a fleet is for all, or an operating system.
func (w *change) publish(ctx context.Context) error {
	for _, name := range []string{"is_public", "is_host"} { // their columns are called so, too
		wanted, ok := w.body[name].(bool)
		if !ok || w.actor.Administrator {
			continue
		}
		if w.verb == create {
			if !wanted {
				continue
			}
			return fault.Newf(fault.Denied, "only an administrator of this server may set %s", name)
		}
		for list := range lists(w.ids) {
			var others int
			if err := w.tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM fleets t WHERE t.id IN `+list+` AND t.`+name+` <> $1`, wanted).Scan(&others); err != nil {
				return err
			}
			if others > 0 {
				return fault.Newf(fault.Denied, "only an administrator of this server may set %s", name)
			}
		}
	}
	return nil
}

// rename gives a fleet the slug of its name and its organization, when either is another one from now on. To leave an
// organization is for its owner to decide; who takes the fleet in must be allowed to make one there.
func (w *change) rename(ctx context.Context, f fleet.Fleet) error {
	name, to := w.text("app_name"), f.Organization
	if organization, ok := w.id("organization"); ok {
		to = organization
	}
	if name == "" && to == f.Organization {
		return nil
	}
	if name == "" {
		name = f.Name
	}
	handle, err := store.Handle(ctx, w.tx, to)
	if err != nil {
		return err
	}
	w.columns["slug"] = fleet.Slug(handle, name)
	if to == f.Organization {
		return nil
	}
	for _, need := range []struct {
		organization int64
		rank         fleet.Rank
	}{{f.Organization, fleet.Owner}, {to, fleet.Developer}} {
		rank, err := store.OrganizationRank(ctx, w.tx, w.actor.ID, need.organization)
		if err != nil {
			return err
		}
		if rank < need.rank {
			return fault.Newf(fault.Denied, "you may not move %s to another organization", f.Slug).
				WithHint("its owner may, who has to be a developer or owner of the other one")
		}
	}
	return store.LeaveOrganization(ctx, w.tx, f.ID)
}

// retype lets a fleet be for another device type as long as its devices can run what is built for it.
func (w *change) retype(ctx context.Context, f fleet.Fleet, deviceType int64) error {
	arch, err := store.Architecture(ctx, w.tx, deviceType)
	if err != nil {
		return err
	}
	have, err := store.Architectures(ctx, w.tx, f.ID)
	if err != nil {
		return err
	}
	for _, device := range have {
		if !fleet.MayRun(device, arch) {
			return fault.Newf(fault.Invalid, "%s has devices (%s) that cannot run what is built for that type (%s)", f.Slug, device, arch).
				WithHint("move them to a fleet of their own first")
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
	if given, ok := w.body["uuid"]; ok {
		if err := fleet.CheckFleetUUID(given.(string)); err != nil {
			return err
		}
	} else if w.columns["uuid"], err = newUUID(); err != nil {
		return err
	}
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

// newUUID is a uuid that no one else has.
func newUUID() (string, error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	return fleet.NewUUID(random), nil
}

// followFleet is the rule of fleets after they are written: what they should run may be another release now.
func followFleet(ctx context.Context, w *change) error {
	if w.verb != update {
		return nil
	}
	track, _ := w.body["should_track_latest_release"].(bool)
	for _, id := range w.ids {
		if track {
			if _, err := store.FollowLatest(ctx, w.tx, id, w.now); err != nil {
				return err
			}
		}
		f, err := store.FleetIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if f.Target != w.memo[id] {
			if err := w.follow(ctx, id); err != nil {
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

// editService is the rule of services before they are written. What a release calls it is what devices call it.
func editService(ctx context.Context, w *change) error {
	if name, ok := w.body["service_name"]; ok {
		if err := fleet.CheckServiceName(name.(string)); err != nil {
			return err
		}
	}
	for _, id := range w.ids {
		s, err := store.ServiceIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if w.verb == remove && s.Releases > 0 {
			return fault.Newf(fault.Conflict, "service %s cannot be deleted: %d releases have it", s.Name, s.Releases).
				WithHint("delete the releases first")
		}
		if name := w.text("service_name"); name == "" || name == s.Name {
			continue
		}
		for _, c := range s.Compositions {
			if fleet.Composes(c, s.Name) {
				return fault.Newf(fault.Conflict, "service %s cannot be renamed: releases call it so", s.Name).
					WithHint("a release with another name for it makes another service")
			}
		}
		if s.Releases > 0 {
			w.touched.add(s.Fleet, 0)
		}
	}
	return nil
}

// installService is the rule of services after they are written: every device can have variables for a new one.
func installService(ctx context.Context, w *change) error {
	if w.verb != create {
		return nil
	}
	return store.InstallService(ctx, w.tx, w.ids[0], w.now)
}

// nameService is the rule of a service's variables: the service comes by its id, or by fleet and name.
func nameService(ctx context.Context, w *change) error {
	if w.verb == create {
		name := w.text("service_name")
		fleetID, _ := w.id("application")
		delete(w.body, "service_name")
		delete(w.body, "application")
		if _, ok := w.body["service"]; !ok {
			service, err := store.ServiceNamed(ctx, w.tx, fleetID, name)
			if err != nil {
				return err
			}
			if service == 0 {
				return fault.New(fault.Invalid, "service_environment_variable needs service, or application and service_name of one that is there")
			}
			w.body["service"] = service // of a fleet that the actor reads: references has looked
		}
	}
	return checkVariable(ctx, w)
}

// checkLabel is the rule of labels.
func checkLabel(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	return fleet.CheckLabel(w.named("label_name", "label"), w.text("value"))
}

// checkBuildVariable is the rule of what builds get as arguments.
func checkBuildVariable(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	if strings.HasPrefix(w.text("name"), "BUILDKIT_") {
		return fault.Newf(fault.Invalid, "the build argument %s is the server's own", w.text("name")).WithHint("give it another name")
	}
	return fleet.CheckVariable(w.named("name", "variable"), w.text("value"))
}

// checkProfile is the rule of the profiles that a fleet activates.
func checkProfile(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	return fleet.CheckProfile(w.named("activates__profile_name", "profile"))
}
