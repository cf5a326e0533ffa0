package deviceapi

import (
	"crypto/sha1" // an ETag, not a signature
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/wire"
)

// maxWait bounds how long an unchanged target is held for a device that prefers to wait: below the minute after
// which many routers forget a silent connection.
const maxWait = 55 * time.Second

// target answers what a device should be (protocol §2.1): 304 when it knows already, and also for a device that is
// not there, so that one that was deleted keeps running what it has.
func (s *Server) target(w http.ResponseWriter, r *http.Request) error {
	uuid := r.PathValue("uuid")
	if _, err := s.Store.Device(r.Context(), uuid); fault.Is(err, fault.NotFound) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	d, actor, err := s.visible(r, uuid)
	if err != nil {
		return err
	}
	body, etag, poll, err := s.composed(r, d)
	if err != nil {
		return err
	}
	if actor.Kind != fleet.DeviceActor { // a person who looks is not the device
		return answerTarget(w, r, body, etag)
	}
	s.Hub.Heard(d, poll)
	if d.Deactivated { // it runs on as it is, and is not told the tag of what it does not get
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if wait := preferredWait(r); wait > 0 && known(r, etag) {
		if body, etag, err = s.held(r, d, etag, wait); err != nil {
			return err
		}
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	return answerTarget(w, r, body, etag)
}

// answerTarget sends a target, or says that whoever asks has it already.
func answerTarget(w http.ResponseWriter, r *http.Request, body []byte, etag string) error {
	w.Header().Set("ETag", etag)
	if known(r, etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(body) // the device asks again
	return nil
}

// held waits until the target differs from etag or the time is up. A device that is deleted meanwhile is answered as
// if nothing had changed.
func (s *Server) held(r *http.Request, d fleet.Device, etag string, wait time.Duration) (body []byte, now string, err error) {
	release := s.Hub.Hold(d)
	// The context ends with the connection, or with the server: then it does not matter what the hub thinks.
	defer func() { release(r.Context().Err() != nil) }()
	look, stop := s.Hub.Await(d.UUID, d.Fleet)
	defer stop()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		// Once more after Await began: a change between the two would be missed.
		if d, err = s.Store.Device(r.Context(), d.UUID); err != nil {
			if fault.Is(err, fault.NotFound) {
				return nil, etag, nil
			}
			return nil, "", err
		}
		if body, now, _, err = s.composed(r, d); err != nil || now != etag {
			return body, now, err
		}
		select {
		case <-look:
		case <-timer.C:
			return body, now, nil
		case <-r.Context().Done():
			return nil, "", r.Context().Err()
		}
	}
}

// composed is the body of a device's target, its ETag, and how often the device is to ask.
func (s *Server) composed(r *http.Request, d fleet.Device) (body []byte, etag string, poll int64, err error) {
	t, poll, err := s.targetOf(r, d)
	if err != nil {
		return nil, "", 0, err
	}
	if body, err = json.Marshal(wire.Target{d.UUID: t}); err != nil {
		return nil, "", 0, fmt.Errorf("encode target of %s: %w", d.UUID, err)
	}
	return body, tagOf(body), poll, nil
}

// fleetTarget answers what a device of a fleet should be that has nothing of its own, keyed by the fleet's uuid
// (protocol §2.1): what tools put into an image in advance.
func (s *Server) fleetTarget(w http.ResponseWriter, r *http.Request) error {
	refused := fault.New(fault.Unauthenticated, "Unauthorized")
	actor, err := s.Auth.Request(r)
	if err != nil {
		return err
	}
	f, err := s.Store.FleetByUUID(r.Context(), r.PathValue("uuid"))
	if fault.Is(err, fault.NotFound) {
		return refused
	}
	if err != nil {
		return err
	}
	if mine := (actor.Kind == fleet.DeviceActor || actor.Kind == fleet.FleetActor) && actor.Fleet == f.ID; !mine {
		if err := s.Auth.May(r.Context(), actor, f.ID, fleet.Operator); fault.Is(err, fault.NotFound) || fault.Is(err, fault.Denied) {
			return refused
		} else if err != nil {
			return err
		}
	}
	d := fleet.Device{UUID: f.UUID, Name: f.Name, Fleet: f.ID}
	if commit := r.URL.Query().Get("releaseUuid"); commit != "" {
		release, found, err := s.Store.Succeeded(r.Context(), f.ID, commit)
		if err != nil {
			return err
		}
		if !found {
			return refused
		}
		d.Pin = release.ID
	}
	t, _, err := s.targetOf(r, d)
	if err != nil {
		return err
	}
	body, err := json.Marshal(wire.Target{f.UUID: t})
	if err != nil {
		return err
	}
	return answerTarget(w, r, body, tagOf(body))
}

// targetOf is a device's target, and how often the device is to ask.
func (s *Server) targetOf(r *http.Request, d fleet.Device) (t wire.DeviceTarget, poll int64, err error) {
	parts, err := s.Store.Parts(r.Context(), d)
	if err != nil {
		return t, 0, err
	}
	if t, err = fleet.Target(parts); err != nil {
		return t, 0, err
	}
	return t, fleet.Poll(t.Config), nil
}

// tagOf is the ETag of a body, weak as balena's are.
func tagOf(body []byte) string {
	sum := sha1.Sum(body)
	return `W/"` + strconv.FormatInt(int64(len(body)), 16) + "-" + base64.RawStdEncoding.EncodeToString(sum[:]) + `"`
}

// known reports whether the device has the target with this tag already.
func known(r *http.Request, etag string) bool {
	for _, tag := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimSpace(tag); tag == etag || strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}

// preferredWait is the wait a device prefers (RFC 7240 §4.3), within bounds; 0 for none.
func preferredWait(r *http.Request) time.Duration {
	for _, header := range r.Header.Values(wire.HeaderPrefer) {
		for _, preference := range strings.Split(header, ",") {
			value, ok := strings.CutPrefix(strings.TrimSpace(preference), "wait=")
			if !ok {
				continue
			}
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				return min(time.Duration(min(n, 3600))*time.Second, maxWait)
			}
		}
	}
	return 0
}

// report takes what devices say of themselves (protocol §2.3).
func (s *Server) report(w http.ResponseWriter, r *http.Request) error {
	actor, err := s.Auth.Request(r)
	if err != nil {
		return err
	}
	if actor.Kind == fleet.Nobody {
		return fault.New(fault.Unauthenticated, "Unauthorized")
	}
	in, err := wire.ParseReport(r.Body)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, err.Error())
	}
	for uuid, said := range in {
		d, err := s.speaking(r, uuid)
		if err != nil {
			return err
		}
		f, err := s.Store.Fleet(r.Context(), d.Fleet)
		if err != nil {
			return err
		}
		if err := s.observe(r, d, observation(f.UUID, said)); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// observe records what a device said of itself and tells who watches.
func (s *Server) observe(r *http.Request, d fleet.Device, o store.Observation) error {
	if err := s.Store.Observe(r.Context(), d, o); err != nil {
		return err
	}
	s.Hub.Heard(d, 0)
	s.Hub.Reported(d.Fleet)
	if said := news(o); len(said) > 0 {
		said["uuid"] = d.UUID
		s.tell(d, "device.state", said)
	}
	return nil
}

// news is what of an observation an event tells: not what changes all the time.
func news(o store.Observation) map[string]any {
	said := map[string]any{}
	for _, column := range []string{
		"status", "os_version", "os_variant", "supervisor_version", "ip_address", "mac_address", "provisioning_state",
		"provisioning_progress", "is_undervolted",
	} {
		if value, ok := o.Columns[column]; ok {
			said[column] = value
		}
	}
	if o.UpdateStatus != "" {
		said["update_status"] = o.UpdateStatus
	}
	if o.Running != "" {
		said["commit"] = o.Running
	}
	if o.Apps {
		images := make([]map[string]any, 0, len(o.Installs))
		byImage := func(a, b store.Install) int { return strings.Compare(a.Location, b.Location) }
		for _, i := range slices.SortedFunc(slices.Values(o.Installs), byImage) {
			images = append(images, map[string]any{"image": i.Location, "commit": i.Commit, "status": i.Status, "download_progress": i.Progress})
		}
		said["images"] = images
	}
	return said
}

// tell publishes something that happened to a device.
func (s *Server) tell(d fleet.Device, what string, data map[string]any) {
	if data == nil {
		data = map[string]any{"uuid": d.UUID}
	}
	body, err := json.Marshal(data)
	if err != nil {
		s.Log.Error("event not told", "type", what, "device", d.UUID, "err", err)
		return
	}
	s.Hub.Publish(hub.Event{Type: what, Fleet: d.Fleet, Device: d.ID, Data: body})
}

// observation is what a report changes. Only the device's own fleet counts: containers of another one are
// leftovers of a move.
func observation(fleetUUID string, said wire.DeviceReport) store.Observation {
	o := store.Observation{Columns: map[string]any{}, Apps: said.Apps != nil, UpdateStatus: string(said.UpdateStatus())}
	for column, value := range map[string]*string{
		"status": said.Status, "os_version": said.OSVersion, "os_variant": said.OSVariant,
		"supervisor_version": said.SupervisorVersion, "ip_address": said.IPAddress, "mac_address": said.MACAddress,
		"api_secret": said.APISecret, "provisioning_state": said.ProvisioningState, "storage_block_device": said.StorageDevice,
		"cpu_id": said.CPUID,
	} {
		if value != nil {
			o.Columns[column] = *value
		}
	}
	for column, value := range map[string]*int64{
		"api_port": said.APIPort, "memory_usage": said.MemoryUsage,
		"memory_total": said.MemoryTotal, "storage_usage": said.StorageUsage, "storage_total": said.StorageTotal,
		"cpu_usage": said.CPUUsage, "cpu_temp": said.CPUTemp,
	} {
		if value != nil {
			o.Columns[column] = *value
		}
	}
	if p := said.Provisioning; p.Said {
		o.Columns["provisioning_progress"] = p.Value // NULL when it was cleared
	}
	if said.Undervolted != nil {
		o.Columns["is_undervolted"] = *said.Undervolted
	}
	app := said.Apps[fleetUUID]
	o.Running = app.ReleaseUUID
	for commit, rel := range app.Releases {
		running := len(rel.Services) > 0
		for _, svc := range rel.Services {
			location, _, _ := strings.Cut(strings.ToLower(svc.Image), "@")
			o.Installs = append(o.Installs, store.Install{Location: location, Commit: commit, Status: svc.Status, Progress: svc.DownloadProgress})
			running = running && svc.Status == wire.StatusRunning
		}
		if running && o.Running == "" {
			o.Running = commit
		}
	}
	return o
}
