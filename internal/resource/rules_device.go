package resource

import (
	"context"
	"math/rand/v2"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

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
	if err := w.observed(); err != nil {
		return err
	}
	if _, ok := w.body["is_pinned_on__release"]; ok && w.actor.Kind == fleet.UserActor {
		w.columns["pin_chosen"] = true
	}
	if w.verb == create {
		return newDevice(ctx, w)
	}
	to, moves := w.id("belongs_to__application")
	for _, id := range w.ids {
		d, err := store.DeviceIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		in, arch := d.Fleet, d.Arch
		if moves {
			in = to
		}
		kind, retypes := w.id("is_of__device_type")
		if retypes {
			if arch, err = store.Architecture(ctx, w.tx, kind); err != nil {
				return err
			}
		}
		if moves || retypes {
			if err := w.fits(ctx, d.Name, arch, in); err != nil {
				return err
			}
		}
		for _, name := range []string{"is_pinned_on__release", "is_running__release"} {
			if release, _ := w.id(name); release != 0 {
				if err := w.runnable(ctx, release, in); err != nil {
					return err
				}
			}
		}
		if err := w.operated(ctx, d); err != nil {
			return err
		}
		if active, ok := w.body["is_active"].(bool); ok && !active && !d.Deactivated {
			if err := w.offline(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits is nil if a device of some architecture can run the images of a fleet.
func (w *change) fits(ctx context.Context, device, arch string, fleetID int64) error {
	f, err := store.FleetIn(ctx, w.tx, fleetID)
	if err != nil {
		return err
	}
	if !fleet.MayRun(arch, f.Arch) {
		return fault.Newf(fault.Invalid, "%s (%s) cannot run the images of %s (%s)", device, arch, f.Slug, f.Arch).
			WithHint("choose a fleet of its own architecture")
	}
	return nil
}

// observed checks what people say of a device in place of its own reports.
func (w *change) observed() error {
	switch w.named("os_variant", "prod") {
	case "prod", "dev":
	default:
		return fault.New(fault.Invalid, "os_variant is prod or dev")
	}
	switch w.named("update_status", "done") {
	case "rejected", "downloading", "downloaded", "applying changes", "aborted", "done":
	default:
		return fault.Newf(fault.Invalid, "%q is no update_status", w.text("update_status"))
	}
	if seen, ok := w.body["last_connectivity_event"].(int64); ok {
		w.body["last_connectivity_event"] = min(seen, w.now)
	}
	// A device that calls in by itself says so again within its poll interval, whatever is written here.
	if online, ok := w.body["is_online"].(bool); ok {
		delete(w.body, "last_connectivity_event")
		seen := w.now
		if !online {
			seen -= 24 * 3600 * 1_000_000 // no poll interval is as long
		}
		w.columns["last_seen"] = seen
	}
	return nil
}

// operated checks the releases that a device's own system should be of: an operating system for its device type, and a
// supervisor for its architecture (protocol §8.1).
func (w *change) operated(ctx context.Context, d fleet.Device) error {
	for _, is := range []struct {
		name string
		host bool
	}{{"should_be_operated_by__release", true}, {"should_be_managed_by__release", false}} {
		release, _ := w.id(is.name)
		if release == 0 {
			continue
		}
		r, err := store.ReleaseIn(ctx, w.tx, release)
		if err != nil {
			return err
		}
		f, err := store.FleetIn(ctx, w.tx, r.Fleet)
		if err != nil {
			return err
		}
		host, err := store.HostFleet(ctx, w.tx, r.Fleet)
		if err != nil {
			return err
		}
		switch {
		case r.Status != fleet.Success:
			return fault.Newf(fault.Invalid, "%s: the status of the release is %s", is.name, r.Status)
		case host != is.host:
			return fault.Newf(fault.Invalid, "%s: %s is not for that", is.name, f.Slug)
		case is.host && f.DeviceType != d.DeviceType:
			return fault.Newf(fault.Invalid, "%s is for %s, and %s is a %s", f.Slug, f.DeviceType, d.Name, d.DeviceType)
		case !fleet.MayRun(d.Arch, f.Arch):
			return fault.Newf(fault.Invalid, "%s (%s) cannot run %s (%s)", d.Name, d.Arch, f.Slug, f.Arch)
		}
	}
	return nil
}

// offline is nil for a device that may be deactivated.
func (w *change) offline(ctx context.Context, d fleet.Device) error {
	f, _ := w.res.field("is_online")
	c := w.compiler(w.actor)
	var online bool
	if err := w.tx.QueryRowContext(ctx, `SELECT `+c.expr(f, "t")+` FROM devices t WHERE t.id = $1`, d.ID).Scan(&online); err != nil {
		return err
	}
	if online {
		return fault.Newf(fault.Invalid, "%s cannot be deactivated: it is online", d.Name).
			WithHint("shut it down, or move it to another fleet")
	}
	return nil
}

// newDevice gives a device what nobody says.
func newDevice(ctx context.Context, w *change) error {
	in, _ := w.id("belongs_to__application")
	kind, ok := w.id("is_of__device_type")
	var err error
	if !ok {
		if kind, err = store.FleetDeviceType(ctx, w.tx, in); err != nil {
			return err
		}
		w.body["is_of__device_type"] = kind
	}
	arch, err := store.Architecture(ctx, w.tx, kind)
	if err != nil {
		return err
	}
	if err := w.fits(ctx, "a device of that type", arch, in); err != nil {
		return err
	}
	if given, ok := w.body["uuid"]; ok {
		if err := fleet.CheckDeviceUUID(given.(string)); err != nil {
			return err
		}
	} else if w.columns["uuid"], err = newUUID(); err != nil {
		return err
	}
	if _, ok := w.body["device_name"]; !ok {
		if w.columns["name"], err = store.FreeDeviceName(ctx, w.tx, in, "", func(taken int) string {
			return fleet.RandomName(rand.IntN, taken)
		}); err != nil {
			return err
		}
	}
	if pin, _ := w.id("is_pinned_on__release"); pin != 0 {
		if err := w.runnable(ctx, pin, in); err != nil {
			return err
		}
	}
	w.columns["actor"], err = store.NewActor(ctx, w.tx, "device")
	return err
}

// moveDevice is the rule of devices after they are written: a new one and a moved one have the services of their fleet.
func moveDevice(ctx context.Context, w *change) error {
	if _, moves := w.id("belongs_to__application"); moves {
		return store.Settle(ctx, w.tx, w.ids, w.now)
	}
	return nil
}

// nameInstall is the rule of a service's variables on a device: the two come by the row that ties them, or by
// themselves.
func nameInstall(ctx context.Context, w *change) error {
	if w.verb == create {
		device, _ := w.id("device")
		service, _ := w.id("service")
		if _, ok := w.body["service_install"]; !ok {
			install, err := store.ServiceInstall(ctx, w.tx, device, service)
			if err != nil {
				return err
			}
			if install == 0 {
				return fault.New(fault.Invalid, "device_service_environment_variable needs service_install, or a device and a service of its fleet")
			}
			w.body["service_install"] = install
		} else if device != 0 || service != 0 {
			return fault.New(fault.Invalid, "name the service_install, or the device and the service, not all of them")
		}
	}
	return checkVariable(ctx, w)
}

// checkInstallStatus says whether an image on a device can be in a state (protocol §6.5).
func checkInstallStatus(status string) error {
	switch status {
	case "Stopping", "Stopped", "Downloading", "Downloaded", "Installing", "Installed", "Starting", "Running", "Idle", "Handing over",
		"Awaiting handover", "Deleting", "deleted", "Dead", "paused", "restarting", "removing", "exited", "configuring", "Unknown":
		return nil
	}
	return fault.Newf(fault.Invalid, "%q is no status of an image on a device", status)
}

// editInstall is the rule of images on devices: they are of the device's fleet, and of a release of it.
func editInstall(ctx context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	if status, ok := w.body["status"].(string); ok {
		if err := checkInstallStatus(status); err != nil {
			return err
		}
	}
	if progress, ok := w.body["download_progress"].(int64); ok && (progress < 0 || progress > 100) {
		return fault.New(fault.Invalid, "download_progress is in percent")
	}
	if w.verb == create {
		if _, ok := w.body["install_date"]; !ok {
			w.body["install_date"] = w.now
		}
		device, _ := w.id("device")
		d, err := store.DeviceIn(ctx, w.tx, device)
		if err != nil {
			return err
		}
		return w.installs(ctx, d.Fleet)
	}
	for _, id := range w.ids {
		fleetID, err := store.InstallFleet(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if err := w.installs(ctx, fleetID); err != nil {
			return err
		}
	}
	return nil
}

// installs checks that what the body names is of a fleet.
func (w *change) installs(ctx context.Context, fleetID int64) error {
	if image, ok := w.id("installs__image"); ok {
		i, err := store.ImageIn(ctx, w.tx, image)
		if err != nil {
			return err
		}
		if i.Fleet != fleetID {
			return fault.New(fault.Invalid, "the image is not of the device's fleet")
		}
	}
	if release, ok := w.id("is_provided_by__release"); ok {
		r, err := store.ReleaseIn(ctx, w.tx, release)
		if err != nil {
			return err
		}
		if r.Fleet != fleetID {
			return fault.New(fault.Invalid, "the release is not of the device's fleet")
		}
	}
	return nil
}
