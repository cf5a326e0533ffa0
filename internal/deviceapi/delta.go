package deviceapi

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/wire"
)

// Deltas finds the deltas between images.
type Deltas interface {
	// Find waits a short while for a delta that is being made. fault.NotFound: there is none and will be none soon;
	// fault.Unavailable: it is not there yet.
	Find(ctx context.Context, q DeltaQuestion) (fleet.Delta, error)
}

// DeltaQuestion is who asks for the delta between which images.
type DeltaQuestion struct {
	Source, Target             string // repositories, v2/<32 hex>
	SourceDigest, TargetDigest string // of the manifests, sha256:…; "" where the question does not say
	Stock                      bool   // for a stock supervisor
	Device                     int64  // 0: not a device asks
}

// imageName is an image as a target names it: host, repository, digest or tag.
var imageName = regexp.MustCompile(`^([a-z0-9.\[\]-][a-z0-9.:\[\]-]*)/(v2/[0-9a-f]{32})(?::[\w][\w.-]{0,127})?(?:@(sha256:[0-9a-f]{64}))?$`)

// delta answers where the difference between two images is (protocol §4.4). An image that is not there and one that is
// another tenant's look alike: of the destination they are 401, as a token is good for neither; of the source 404, since
// the device may fetch the destination whole.
func (s *Server) delta(w http.ResponseWriter, r *http.Request) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return unauthorized()
	}
	pull, err := s.Auth.Pulling(r.Context(), strings.TrimSpace(token))
	if fault.Is(err, fault.Unauthenticated) {
		return unauthorized()
	}
	if err != nil {
		return err
	}
	query := r.URL.Query()
	source := imageName.FindStringSubmatch(strings.ToLower(query.Get("src")))
	target := imageName.FindStringSubmatch(strings.ToLower(query.Get("dest")))
	if source == nil || target == nil {
		return fault.New(fault.Invalid, "src and dest must be images of this server, HOST/v2/HEX@sha256:…")
	}
	q := DeltaQuestion{
		Source: source[2], SourceDigest: source[3], Target: target[2], TargetDigest: target[3], Stock: !accepts(r, wire.DeltaAnswer),
	}
	if !pull.May(q.Target) {
		return unauthorized()
	}
	if s.Deltas == nil || !pull.May(q.Source) {
		return fault.New(fault.NotFound, "there is no delta between these images")
	}
	if fleet.CheckDeviceUUID(pull.Subject) == nil {
		d, err := s.Store.Device(r.Context(), pull.Subject)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		q.Device = d.ID
	}
	d, err := s.Deltas.Find(r.Context(), q)
	if fault.Is(err, fault.Unavailable) {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, fault.RetryAfter(err))))
		http.Error(w, fault.Message(err), http.StatusGatewayTimeout)
		return nil
	}
	if err != nil {
		return err
	}
	// The registry is called as the asker calls it.
	name := target[1] + "/" + target[2] + d.Artifact.Name
	if q.Stock {
		return answer(w, http.StatusOK, map[string]string{"name": name})
	}
	w.Header().Set("Content-Type", wire.DeltaAnswer)
	json.NewEncoder(w).Encode(wire.Delta{ // the device's going is its own affair
		Name: name, Blob: d.Artifact.Blob, Size: d.Artifact.Size, From: d.Artifact.From, To: d.Artifact.To,
	})
	return nil
}

func unauthorized() error { return fault.New(fault.Unauthenticated, "Unauthorized") }

// accepts reports whether a request names a media type among those it takes.
func accepts(r *http.Request, mediaType string) bool {
	for _, header := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(header, ",") {
			if name, _, _ := strings.Cut(one, ";"); strings.EqualFold(strings.TrimSpace(name), mediaType) {
				return true
			}
		}
	}
	return false
}
