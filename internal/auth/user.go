package auth

import (
	"context"
	"net/mail"
	"regexp"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// username is also the handle of the user's organization, and so a part of paths and host-neutral slugs.
var username = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9_-]{0,37}[a-z0-9])?$`)

// reserved are names that mean something else on the protocol's wires: the organization of balena's host apps, and
// whom the registry takes for the server itself.
var reserved = map[string]bool{"balena_os": true, "builder": true}

// Who may have an account made.
const (
	RegistrationOpen    = "open"    // anybody, for himself
	RegistrationInvited = "invited" // administrators, and who has an invitation
	RegistrationClosed  = "closed"  // administrators
)

// NewAccount is what an account is made of.
type NewAccount struct {
	Username      string // "" makes one of the email
	Email         string // "" for none
	Password      string
	Administrator bool
	Invitation    string // the token it is made for; "" for none
}

// FirstUser makes the administrator's account, with an organization of the same name, if there is no account at
// all; otherwise it does nothing and made is false. Without a password it makes one, and oneTime is that password,
// which is kept nowhere else.
func (a *Auth) FirstUser(ctx context.Context, name, email, password string) (made bool, oneTime string, err error) {
	if there, err := a.Store.HasUsers(ctx); err != nil || there {
		return false, "", err
	}
	if password == "" {
		oneTime = NewPassword()
		password = oneTime
	}
	n, err := a.newUser(ctx, NewAccount{Username: name, Email: email, Password: password, Administrator: true})
	if err != nil {
		return false, "", err
	}
	n.Console = true
	u, made, err := a.Store.AddFirstUser(ctx, n)
	if err != nil || !made {
		return false, "", err
	}
	a.log().Info("made the first user", "user", u.Username)
	return true, oneTime, nil
}

// NewUser makes a further account from the server's console, with an organization of the same name. A name, email or
// handle that is taken is fault.Conflict.
func (a *Auth) NewUser(ctx context.Context, name, email, password string) (fleet.User, error) {
	return a.Add(ctx, NewAccount{Username: name, Email: email, Password: password})
}

// Add is NewUser of anything an account is made of.
func (a *Auth) Add(ctx context.Context, account NewAccount) (fleet.User, error) {
	n, err := a.newUser(ctx, account)
	if err != nil {
		return fleet.User{}, err
	}
	n.Console = true
	return a.Store.AddUser(ctx, n)
}

// Register makes an account in the name of by, or of nobody, as Registration allows, and is its first session. Who
// may not is fault.Denied. Whether an email is taken is told: nobody checks it by mail, so two people might have one.
func (a *Auth) Register(ctx context.Context, by fleet.Actor, account NewAccount) (session string, err error) {
	administrator := by.Kind == fleet.UserActor && by.Administrator
	switch {
	case administrator:
	case account.Administrator:
		return "", fault.New(fault.Denied, "only an administrator makes administrators")
	default:
		if err := a.mayRegister(ctx, by.Address, account); err != nil {
			return "", err
		}
	}
	account.Email = strings.TrimSpace(account.Email)
	if account.Invitation != "" && account.Email == "" {
		i, err := a.Store.Invitation(ctx, HashKey(account.Invitation))
		if err != nil {
			return "", err
		}
		account.Email = i.Email
	}
	if account.Email == "" && account.Username == "" {
		return "", fault.New(fault.Invalid, "an account needs an email address or a user name")
	}
	if account.Username == "" {
		if account.Username, err = a.nameFrom(ctx, account.Email); err != nil {
			return "", err
		}
	}
	n, err := a.newUser(ctx, account)
	if err != nil {
		return "", err
	}
	if n.By = by; !administrator {
		n.By = fleet.Actor{Address: by.Address} // a session or key that came along has nothing to do with it
	}
	if account.Invitation != "" {
		n.Invitation = HashKey(account.Invitation)
	}
	u, err := a.Store.AddUser(ctx, n)
	if err != nil {
		return "", err
	}
	a.log().Info("made an account", "user", u.Username, "by", n.By.Name, "address", by.Address)
	return a.newSession(store.Login{User: u, JWTSecret: n.JWTSecret}, a.now())
}

// mayRegister says whether who is no administrator may make this account, and counts the attempt.
func (a *Auth) mayRegister(ctx context.Context, address string, account NewAccount) error {
	l, now, from := a.bounds(), a.now(), place(address)
	if wait := l.accountOf.take(now, from); wait > 0 {
		return limited("too many accounts are asked for", wait)
	}
	if wait := l.newcomers.take(now, "all"); wait > 0 {
		return limited("too many accounts are asked for", wait)
	}
	switch {
	case a.Registration == RegistrationOpen && account.Invitation == "":
		return nil
	case a.Registration == RegistrationOpen, a.Registration == RegistrationInvited && account.Invitation != "":
		// What it is good for is looked at again when it is used up; this is before the work of a hash.
		_, err := a.Store.Invitation(ctx, HashKey(account.Invitation))
		return err
	case a.Registration == RegistrationInvited:
		return fault.New(fault.Denied, "this server makes accounts by invitation").
			WithHint("ask an owner of an organization here to invite you, or whoever runs the server for an account")
	}
	return fault.New(fault.Denied, "this server makes no accounts for strangers").WithHint("ask whoever runs the server for an account")
}

var noName = regexp.MustCompile(`[^a-z0-9_-]+`)

// nameFrom makes a free user name of an email address.
func (a *Auth) nameFrom(ctx context.Context, email string) (string, error) {
	local, _, _ := strings.Cut(strings.ToLower(email), "@")
	name := strings.Trim(noName.ReplaceAllString(local, "-"), "-_")
	if len(name) > 30 {
		name = strings.Trim(name[:30], "-_")
	}
	if name == "" {
		name = "user"
	}
	for try := name; ; try = name + "-" + random(4, "23456789") {
		taken, err := a.Store.NameTaken(ctx, try)
		if err != nil {
			return "", err
		}
		if !taken && !reserved[try] {
			return try, nil
		}
	}
}

func (a *Auth) newUser(ctx context.Context, account NewAccount) (store.NewUser, error) {
	name, email := account.Username, account.Email
	n := store.NewUser{Username: name, Email: strings.ToLower(email), JWTSecret: random(32, alphanumeric), Administrator: account.Administrator}
	if !username.MatchString(name) || reserved[name] {
		return n, fault.Newf(fault.Invalid, "%q cannot be a user name", name).
			WithHint("use 1 to 39 lower-case letters, digits, dashes and underscores")
	}
	if email != "" {
		if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email || len(email) > 254 {
			return n, fault.New(fault.Invalid, "Invalid email").WithHint("for example ada@example.org")
		}
	}
	if err := checkPassword(account.Password, name, n.Email); err != nil {
		return n, err
	}
	var err error
	n.PasswordHash, err = a.hashing.hash(ctx, account.Password)
	return n, err
}

// SetPassword gives a user another password and ends every session the user has. by is who does it; the zero Actor is
// who sits at the server's console.
func (a *Auth) SetPassword(ctx context.Context, by fleet.Actor, user int64, password string) error {
	_, err := a.setPassword(ctx, by, user, password)
	return err
}

func (a *Auth) setPassword(ctx context.Context, by fleet.Actor, user int64, password string) (store.Login, error) {
	login, err := a.Store.LoginOf(ctx, user)
	if err != nil {
		return login, err
	}
	if err := checkPassword(password, login.Username, login.Email); err != nil {
		return login, err
	}
	if login.PasswordHash, err = a.hashing.hash(ctx, password); err != nil {
		return login, err
	}
	login.JWTSecret = random(32, alphanumeric)
	return login, a.Store.SetPassword(ctx, by, user, login.PasswordHash, login.JWTSecret)
}

// ChangePassword trades a user's password for another one. It ends every session of the user; session is a new one.
// API keys stay good.
func (a *Auth) ChangePassword(ctx context.Context, actor fleet.Actor, current, password string) (session string, err error) {
	if actor.Kind != fleet.UserActor {
		return "", fault.New(fault.Unauthenticated, "only a user has a password")
	}
	if _, err := a.prove(ctx, attempt{name: actor.Name, password: current, address: actor.Address, holder: actor.ID}); err != nil {
		return "", err
	}
	if current == password {
		return "", fault.New(fault.Invalid, "this is the password you have").WithHint("choose another one")
	}
	login, err := a.setPassword(ctx, actor, actor.ID, password)
	if err != nil {
		return "", err
	}
	return a.newSession(login, a.now())
}

// DeleteAccount ends the account of the user who asks, with its keys and sessions. What would be left without an
// owner or an administrator is fault.Conflict.
func (a *Auth) DeleteAccount(ctx context.Context, actor fleet.Actor) error {
	if actor.Kind != fleet.UserActor {
		return fault.New(fault.Unauthenticated, "only a user has an account")
	}
	return a.Store.DeleteUser(ctx, actor, actor.ID)
}

// Invitation is what an invitation's token is for.
type Invitation = store.Invitation

// InvitationLife is how long an invitation is good.
const InvitationLife = store.InviteLife

// Invitation is what a token is for, while it is good.
func (a *Auth) Invitation(ctx context.Context, token string) (Invitation, error) {
	return a.Store.Invitation(ctx, HashKey(token))
}

// Accept makes the user who asks a member by an invitation's token.
func (a *Auth) Accept(ctx context.Context, actor fleet.Actor, token string) (Invitation, error) {
	if actor.Kind != fleet.UserActor {
		return Invitation{}, fault.New(fault.Unauthenticated, "an invitation is for a user").WithHint("log in, or make an account with it")
	}
	return a.Store.AcceptInvite(ctx, actor, HashKey(token))
}

// Decline uses an invitation up.
func (a *Auth) Decline(ctx context.Context, actor fleet.Actor, token string) error {
	if actor.Kind != fleet.UserActor {
		return fault.New(fault.Unauthenticated, "an invitation is for a user")
	}
	return a.Store.DeclineInvite(ctx, actor, HashKey(token))
}
