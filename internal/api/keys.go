package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
)

// wanted is the body of the requests for an API key (protocol §1.6).
type wanted struct {
	ActorType   string          `json:"actorType"`
	ActorTypeID json.Number     `json:"actorTypeId"`
	Roles       []string        `json:"roles"`
	APIKey      string          `json:"apiKey"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	ExpiryDate  json.RawMessage `json:"expiryDate"` // a time, null, or not there
}

// spec is the key as auth makes it, for the holder that holds it, when by asks for it.
func (k wanted) spec(by fleet.Actor, holder int64, role string) (s auth.KeySpec, err error) {
	if len(k.Name) > 50 || len(k.Description) > 150 {
		return s, fault.New(fault.Invalid, "an API key's name has at most 50 bytes, its description at most 150")
	}
	s = auth.KeySpec{Actor: holder, Role: role, Name: k.Name, Description: k.Description, Secret: k.APIKey, By: by}
	if len(k.ExpiryDate) == 0 || string(k.ExpiryDate) == "null" {
		return s, nil
	}
	var text string
	if json.Unmarshal(k.ExpiryDate, &text) != nil {
		return s, fault.New(fault.Invalid, "expiryDate must be a time or null")
	}
	s.Expiry, err = odata.ParseTime(text)
	return s, err
}

// issue answers with a new key.
func (a *API) issue(w http.ResponseWriter, r *http.Request, by fleet.Actor, k wanted, holder int64, role string) error {
	spec, err := k.spec(by, holder, role)
	if err != nil {
		return err
	}
	secret, err := a.Auth.NewKey(r.Context(), spec)
	if err != nil {
		return err
	}
	return show(w, secret)
}

// held makes a key for a resource that is an actor.
func (a *API) held(w http.ResponseWriter, r *http.Request, actor fleet.Actor, resource, id string, k wanted, role string) error {
	if actor.Kind == fleet.Nobody {
		return unauthorized()
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return fault.Newf(fault.NotFound, "there is no such %s", resource)
	}
	holder, err := a.Model.KeyHolder(r.Context(), actor, resource, n)
	if err != nil {
		return err
	}
	return a.issue(w, r, actor, k, holder, role)
}

// fleetKey makes a provisioning key of a fleet.
func (a *API) fleetKey(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var k wanted
	if err := decode(r, &k); err != nil {
		return err
	}
	return a.held(w, r, actor, "application", r.PathValue("id"), k, fleet.RoleProvisioning)
}

// deviceKey makes a key of a device: for its user, or for a provisioning key of its fleet, with which a device whose
// own key was lost gets in again.
func (a *API) deviceKey(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var k wanted
	if err := decode(r, &k); err != nil {
		return err
	}
	return a.held(w, r, actor, "device", r.PathValue("id"), k, fleet.RoleDevice)
}

// userKey makes a key to the whole account of the user who asks.
func (a *API) userKey(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var k wanted
	if err := decode(r, &k); err != nil {
		return err
	}
	return a.own(w, r, actor, k, fleet.RoleNamedUser)
}

// own makes a key to the account of the user who asks. It outlives the session, so the session must be fresh.
func (a *API) own(w http.ResponseWriter, r *http.Request, actor fleet.Actor, k wanted, role string) error {
	if actor.Kind != fleet.UserActor {
		return unauthorized()
	}
	if err := a.Auth.Fresh(r); err != nil {
		return err
	}
	return a.issue(w, r, actor, k, actor.Actor, role)
}

// key makes a key of any kind.
func (a *API) key(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var k wanted
	if err := decode(r, &k); err != nil {
		return err
	}
	return a.fitting(w, r, actor, k)
}

// keyWithExpiry is key for clients that always say when the key expires, if only with null.
func (a *API) keyWithExpiry(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var k wanted
	if err := decode(r, &k); err != nil {
		return err
	}
	if len(k.ExpiryDate) == 0 {
		return fault.New(fault.Invalid, "expiryDate must be given").WithHint("null is a key that never expires")
	}
	return a.fitting(w, r, actor, k)
}

// fitting makes the kind of key that the body names, if it fits the actor it names.
func (a *API) fitting(w http.ResponseWriter, r *http.Request, actor fleet.Actor, k wanted) error {
	if len(k.Roles) != 1 {
		return fault.New(fault.Invalid, "roles must have exactly one role")
	}
	switch role := k.Roles[0]; {
	case k.ActorType == "application" && role == fleet.RoleProvisioning:
		return a.held(w, r, actor, "application", k.ActorTypeID.String(), k, role)
	case k.ActorType == "device" && role == fleet.RoleDevice:
		return a.held(w, r, actor, "device", k.ActorTypeID.String(), k, role)
	case k.ActorType == "user" && (role == fleet.RoleNamedUser || role == fleet.RoleUser):
		if k.ActorTypeID.String() != strconv.FormatInt(actor.ID, 10) {
			return fault.New(fault.Denied, "a user's key is made by the user alone")
		}
		return a.own(w, r, actor, k, role)
	}
	return fault.Newf(fault.Invalid, "an actor of type %q cannot hold a key with the role %q", k.ActorType, k.Roles[0]).
		WithHint(fmt.Sprintf("application: %s; device: %s; user: %s or %s", fleet.RoleProvisioning, fleet.RoleDevice, fleet.RoleNamedUser, fleet.RoleUser))
}
