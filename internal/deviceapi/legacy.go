package deviceapi

import (
	"net/http"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/wire"
)

// legacyTarget is target for supervisors before version 12 (protocol §2.1).
func (s *Server) legacyTarget(w http.ResponseWriter, r *http.Request) error {
	uuid := r.PathValue("uuid")
	if _, err := s.Store.Device(r.Context(), uuid); fault.Is(err, fault.NotFound) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	d, actor, err := s.visible(r, uuid)
	if err != nil {
		return err
	}
	t, poll, err := s.targetOf(r, d)
	if err != nil {
		return err
	}
	old, err := wire.LegacyTarget(t)
	if err != nil {
		return err
	}
	if actor.Kind == fleet.DeviceActor {
		s.Hub.Heard(d, poll)
		if d.Deactivated {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	return answerTarget(w, r, old, tagOf(old))
}

// legacyReport takes what such a supervisor says of itself. A device that is not there is told that all is well
// (protocol §2.3).
func (s *Server) legacyReport(w http.ResponseWriter, r *http.Request) error {
	d, err := s.itself(r, r.PathValue("uuid"))
	if fault.Is(err, fault.NotFound) {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if err != nil {
		return err
	}
	said, err := wire.ParseLegacyReport(r.Body)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, err.Error())
	}
	o := observation("", said.DeviceReport)
	o.Apps = said.AppsSaid
	if said.Commit != nil {
		o.Running = *said.Commit
	}
	for _, i := range said.Installs {
		location, commit, found, err := s.Store.ImageOfRelease(r.Context(), d.Fleet, i.Image, i.Release)
		if err != nil {
			return err
		}
		if found { // what is left of another fleet is not said to be here
			o.Installs = append(o.Installs, store.Install{Location: location, Commit: commit, Status: i.Status, Progress: i.Progress})
		}
	}
	if err := s.observe(r, d, o); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// legacyLogs takes a few log lines at once, from a supervisor that keeps no stream open (protocol §3.1).
func (s *Server) legacyLogs(w http.ResponseWriter, r *http.Request) error {
	d, err := s.speaking(r, r.PathValue("uuid"))
	if err != nil {
		return err
	}
	lines, err := wire.ParseLogLines(r.Body)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, err.Error())
	}
	if len(lines) > 0 {
		if err := s.Logs.Append(r.Context(), d.UUID, lines); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}
