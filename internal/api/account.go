package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// login trades name and password for a session.
func (a *API) login(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	var given struct{ Username, Password string }
	if err := decode(r, &given); err != nil {
		return err
	}
	session, err := a.Auth.Login(r.Context(), given.Username, given.Password, a.Auth.Address(r))
	if err != nil {
		return err
	}
	say(w, http.StatusOK, session)
	return nil
}

// register makes an account, if the server lets whoever asks, and answers its first session.
func (a *API) register(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var given struct {
		Email         string `json:"email"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		Administrator bool   `json:"is_administrator"`
		Invitation    string `json:"invitationToken"`
	}
	if err := decode(r, &given); err != nil {
		return err
	}
	session, err := a.Auth.Register(r.Context(), actor, auth.NewAccount{Email: given.Email, Username: given.Username,
		Password: given.Password, Administrator: given.Administrator, Invitation: given.Invitation})
	if err != nil {
		return err
	}
	say(w, http.StatusCreated, session)
	return nil
}

// password trades the user's password for another one, and answers the session that is left.
func (a *API) password(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var given struct {
		Current string `json:"currentPassword"`
		New     string `json:"newPassword"`
	}
	if err := decode(r, &given); err != nil {
		return err
	}
	session, err := a.Auth.ChangePassword(r.Context(), actor, given.Current, given.New)
	if err != nil {
		return err
	}
	say(w, http.StatusOK, session)
	return nil
}

// deleteAccount ends the account of the user who asks, who has given the password just now.
func (a *API) deleteAccount(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	if actor.Kind != fleet.UserActor {
		return unauthorized()
	}
	if err := a.Auth.Fresh(r); err != nil {
		return err
	}
	return a.Auth.DeleteAccount(r.Context(), actor)
}

// invitation answers what an invitation is for, to whoever has its token.
func (a *API) invitation(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	i, err := a.Auth.Invitation(r.Context(), r.PathValue("token"))
	if err != nil {
		return err
	}
	return showInvitation(w, i)
}

// accept makes the user who asks a member.
func (a *API) accept(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	i, err := a.Auth.Accept(r.Context(), actor, r.PathValue("token"))
	if err != nil {
		return err
	}
	return showInvitation(w, i)
}

// decline uses an invitation up.
func (a *API) decline(_ http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	return a.Auth.Decline(r.Context(), actor, r.PathValue("token"))
}

func showInvitation(w http.ResponseWriter, i auth.Invitation) error {
	kind := "organization"
	if i.Fleet != 0 {
		kind = "application"
	}
	return show(w, map[string]any{"invited_to": kind, "name": i.Name, "role": i.Role, "invitee": i.Email, "message": i.Message,
		"created_at": i.Created, "expires_at": i.Created.Add(auth.InvitationLife)})
}

// refresh trades a session for a new one; with the password, for a fresh one.
func (a *API) refresh(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var given struct{ Password string }
	if err := decode(r, &given); err != nil {
		return err
	}
	session, err := a.Auth.Refresh(r.Context(), actor, given.Password)
	if err != nil {
		return err
	}
	say(w, http.StatusOK, session)
	return nil
}

// profile is what a user is told of himself.
type profile struct {
	ID       int64   `json:"id"`
	Username string  `json:"username"`
	Email    *string `json:"email"`
}

func (a *API) profile(r *http.Request, actor fleet.Actor) (p profile, err error) {
	if actor.Kind != fleet.UserActor {
		return p, unauthorized()
	}
	found, err := a.Model.Find(r.Context(), actor, fmt.Sprintf("user(%d)", actor.ID), "$select=id,username,email", &p)
	if err == nil && !found {
		err = unauthorized()
	}
	return p, err
}

// user answers who the user is.
func (a *API) user(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	p, err := a.profile(r, actor)
	if err != nil {
		return err
	}
	return show(w, p)
}

// actor answers who is asking, of any kind.
func (a *API) actor(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	who := map[string]any{"id": actor.Actor, "actorType": actor.Kind.String(), "actorTypeId": actor.ID}
	switch actor.Kind {
	case fleet.UserActor:
		p, err := a.profile(r, actor)
		if err != nil {
			return err
		}
		who["username"], who["email"] = p.Username, p.Email
	case fleet.DeviceActor:
		who["uuid"] = actor.Name
	case fleet.FleetActor:
		who["slug"] = actor.Name
	default:
		return unauthorized()
	}
	return show(w, who)
}

// publicKeys answers the SSH keys of a user, one on a line: to the user, and to the devices the user may enter.
func (a *API) publicKeys(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	username := r.PathValue("username")
	var keys []string
	switch actor.Kind {
	case fleet.UserActor:
		if username != actor.Name {
			return fault.New(fault.Denied, "these are not your keys")
		}
		var me struct {
			Keys []struct {
				Key string `json:"public_key"`
			} `json:"user__has__public_key"`
		}
		if _, err := a.Model.Find(r.Context(), actor, fmt.Sprintf("user(%d)", actor.ID), "$expand=user__has__public_key($orderby=id asc)", &me); err != nil {
			return err
		}
		for _, k := range me.Keys {
			keys = append(keys, k.Key)
		}
	case fleet.DeviceActor:
		var err error
		if keys, err = a.Keys.AuthorizedKeys(r.Context(), username, actor.Fleet); err != nil {
			return err
		}
	default:
		return unauthorized()
	}
	text := strings.Join(keys, "\n")
	if text != "" {
		text += "\n"
	}
	say(w, http.StatusOK, text)
	return nil
}
