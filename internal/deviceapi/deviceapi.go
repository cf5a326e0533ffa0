// Package deviceapi translates what devices call over HTTP, balena's device protocol v3: registration, target,
// report, log stream, registry token, deltas, OS configuration. It owns no rules: what a target is made of is fleet's, who
// may is auth's, what is known of live devices is hub's.
package deviceapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/logs"
	"github.com/dunlin/dunlin/internal/route"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/wire"
)

// bodyTime is what a device gets to send the body of a request in.
const bodyTime = 30 * time.Second

// maxRegistration bounds the body of a registration, in bytes.
const maxRegistration = 64 << 10

// Server answers devices. Its fields are set before the first request.
type Server struct {
	Store *store.DB
	Auth  *auth.Auth
	Hub   *hub.Hub
	Logs  *logs.Store
	Log   *slog.Logger
	// LogsURL is where devices send their logs; "" is where they send everything else.
	LogsURL string
	// Deltas may be nil: then there are none.
	Deltas Deltas
}

// Handler serves all routes of the device protocol.
func (s *Server) Handler() http.Handler { return s.Routes().Handler() }

// Routes are the handlers of the device protocol by pattern.
func (s *Server) Routes() route.Table {
	table := route.Table{}
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /device/register":             s.register,
		"GET /device/v3/{uuid}/state":       s.target,
		"GET /device/v3/fleet/{uuid}/state": s.fleetTarget,
		"PATCH /device/v3/state":            s.report,
		"PATCH /device/v3/tags":             s.tags,
		"POST /device/v2/{uuid}/log-stream": s.logStream,
		"GET /device/v2/{uuid}/state":       s.legacyTarget,
		"PATCH /device/v2/{uuid}/state":     s.legacyReport,
		"POST /device/v2/{uuid}/logs":       s.legacyLogs,
		"GET /auth/v1/token":                s.token,
		"GET /api/v3/delta":                 s.delta,
		"GET /os/v1/config":                 s.osConfig,
		"GET /access/v1/hostos/{uuid}":      s.hostKeys,
	} {
		table[pattern] = s.handle(h)
	}
	return table
}

// handle turns a handler's error into the protocol's answer: a status and a sentence.
func (s *Server) handle(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A body that trickles holds nothing for long; a log stream sets deadlines of its own. A held GET must have
		// none: net/http takes its passing for the client's leaving. A test's recorder has no deadlines.
		if r.Method != http.MethodGet {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		}
		err := h(w, r)
		if err == nil {
			return
		}
		status := status(fault.KindOf(err))
		text := fault.Message(err)
		if status == http.StatusInternalServerError {
			if r.Context().Err() != nil {
				// The device has gone or the server is going. To return would be an empty 200, which says that all
				// was taken; this ends the connection without an answer.
				panic(http.ErrAbortHandler)
			}
			var id [8]byte
			rand.Read(id[:]) // never fails
			text = fmt.Sprintf("internal error (request %s)", hex.EncodeToString(id[:]))
			s.Log.Error("device request", "request", hex.EncodeToString(id[:]), "method", r.Method, "path", r.URL.Path, "err", err)
		}
		if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", strconv.Itoa(max(fault.RetryAfter(err), 15)))
		}
		// Old supervisors compare the whole text: it has no line end.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(status)
		io.WriteString(w, text) // the device's going is its own affair
	})
}

// status is the protocol's answer to a kind of error. A device that may not is answered 401, never 403.
func status(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Unauthenticated, fault.Denied:
		return http.StatusUnauthorized
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func answer(w http.ResponseWriter, status int, body any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the device's going is its own affair
	return nil
}

// register makes a device of whoever holds a provisioning key of the fleet (protocol §1.3).
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	actor, err := s.Auth.Request(r)
	if err != nil {
		return err
	}
	if actor.Kind == fleet.Nobody {
		return answer(w, http.StatusUnauthorized, map[string]string{"error": "API key required"})
	}
	var in wire.Registration
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRegistration)).Decode(&in); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return fault.Newf(fault.TooLarge, "a registration is at most %d bytes", maxRegistration)
		}
		return fault.Wrap(fault.Invalid, err, "the registration is not the JSON of a registration")
	}
	d, err := s.newDevice(r, in)
	if err != nil {
		return err
	}
	if err := s.mayRegister(r.Context(), actor, d.Fleet); fault.Is(err, fault.NotFound) {
		return fault.New(fault.Unauthenticated, fault.Message(err)) // a good key, for other fleets
	} else if err != nil {
		return err
	}
	key := in.APIKey
	if key == "" {
		key = auth.NewSecret()
	}
	if err := auth.CheckKey(key); err != nil {
		return err
	}
	d.KeyHash, d.By = auth.HashKey(key), actor
	made, err := s.Store.RegisterDevice(r.Context(), d)
	if err != nil {
		return notUnique(err)
	}
	// It counts as heard of when it asks for its target: until then its answer may have been lost, and the fleet's
	// provisioning key may still give it another key (protocol §1.4).
	s.Hub.Reported(made.Fleet)
	s.tell(made, "device.registered", map[string]any{"uuid": made.UUID, "device_name": made.Name})
	s.Log.Info("device registered", "device", made.Name, "uuid", made.UUID, "fleet", made.Fleet)
	return answer(w, http.StatusCreated, wire.Registered{ID: made.ID, UUID: made.UUID, APIKey: key})
}

// notUnique gives a conflict the exact words that old supervisors look for.
func notUnique(err error) error {
	switch {
	case !fault.Is(err, fault.Conflict):
		return err
	case strings.Contains(fault.Message(err), `"uuid"`):
		return fault.Wrap(fault.Conflict, err, wire.NotUniqueUUID)
	case strings.Contains(fault.Message(err), `"key_hash"`):
		return fault.Wrap(fault.Conflict, err, `"key" must be unique.`)
	}
	return err
}

// newDevice checks a registration.
func (s *Server) newDevice(r *http.Request, in wire.Registration) (store.NewDevice, error) {
	var d store.NewDevice
	fleetID, err := in.Application.Int64()
	if err != nil || fleetID <= 0 {
		return d, fault.New(fault.Invalid, "application must be the id of a fleet")
	}
	if err := fleet.CheckDeviceUUID(in.UUID); err != nil {
		return d, err
	}
	if in.DeviceType == "" {
		return d, fault.New(fault.Invalid, "device_type is missing")
	}
	if in.DeviceName != "" {
		if err := fleet.CheckDeviceName(in.DeviceName); err != nil {
			return d, err
		}
	}
	variant := in.OSVariant
	if variant != "dev" && variant != "" {
		variant = "prod"
	}
	return store.NewDevice{
		Fleet: fleetID, UUID: in.UUID, DeviceType: in.DeviceType, Name: in.DeviceName,
		Names:     func(taken int) string { return fleet.RandomName(mathrand.IntN, taken) },
		OSVersion: in.OSVersion, OSVariant: variant, SupervisorVersion: in.SupervisorVersion,
		MACAddress: in.MACAddress, Address: s.Auth.Address(r),
	}, nil
}

// mayRegister lets in the fleet's own provisioning keys, and users who operate its devices.
func (s *Server) mayRegister(ctx context.Context, actor fleet.Actor, fleetID int64) error {
	switch {
	case actor.Kind == fleet.FleetActor && actor.Fleet == fleetID:
		return nil
	case actor.Kind == fleet.UserActor:
		return s.Auth.May(ctx, actor, fleetID, fleet.Operator)
	}
	return fault.New(fault.Denied, "this key may not register devices in this fleet").
		WithHint("make one with: dunlin provisioning-key create FLEET")
}

// visible finds the device of that uuid and checks that it is the one asking, or a person who may see it.
func (s *Server) visible(r *http.Request, uuid string) (fleet.Device, fleet.Actor, error) {
	actor, err := s.Auth.Request(r)
	if err != nil {
		return fleet.Device{}, actor, err
	}
	d, err := s.Store.Device(r.Context(), uuid)
	if err != nil {
		return d, actor, err
	}
	switch {
	case actor.Kind == fleet.DeviceActor && actor.ID == d.ID:
		return d, actor, nil
	case actor.Kind == fleet.UserActor && s.Auth.May(r.Context(), actor, d.Fleet, fleet.Operator) == nil:
		return d, actor, nil
	}
	return d, actor, fault.New(fault.Unauthenticated, "Unauthorized")
}

// itself finds the device of that uuid and checks that it is the one asking: nobody else speaks for a device.
func (s *Server) itself(r *http.Request, uuid string) (fleet.Device, error) {
	d, actor, err := s.visible(r, uuid)
	if err == nil && actor.Kind != fleet.DeviceActor {
		err = fault.New(fault.Unauthenticated, "Unauthorized")
	}
	return d, err
}

// speaking is itself where a device that is not there is told no more than a stranger.
func (s *Server) speaking(r *http.Request, uuid string) (fleet.Device, error) {
	d, err := s.itself(r, uuid)
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Unauthenticated, "Unauthorized")
	}
	return d, err
}

// token answers the registry's clients (protocol §4.1).
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	actor, err := s.Auth.Request(r)
	if err != nil {
		return err
	}
	token, err := s.Auth.RegistryToken(r.Context(), actor, auth.ScopesOf(r.URL.Query()))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]string{"token": token})
}
