package deviceapi

import (
	"net/http"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/wire"
)

// tags takes tags that a device gives itself, or takes off, by PATCH /device/v3/tags.
func (s *Server) tags(w http.ResponseWriter, r *http.Request) error {
	actor, err := s.Auth.Request(r)
	if err != nil {
		return err
	}
	in, err := wire.ParseTags(r.Body)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, err.Error())
	}
	for uuid, tags := range in {
		d, err := s.speaking(r, uuid)
		if err != nil {
			return err
		}
		if len(tags) == 0 {
			continue
		}
		if err := s.Store.SetTags(r.Context(), actor, d, tags); err != nil {
			return err
		}
		s.tell(d, "device.tags", nil)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
