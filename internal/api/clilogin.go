package api

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// The page on which a person lets the command line into the account (protocol §6.2). The command line listens on a port
// of the person's own computer and opens this page with that address; the page posts a session there, by a form that
// the person sends. There is no script on it.

//go:embed page
var pages embed.FS

var loginPage = template.Must(template.ParseFS(pages, "page/login.html"))

// sessionCookie keeps a person logged in on this page. No call of the API takes a cookie for credentials.
const sessionCookie = "__Host-dunlin-login"

// loginView is what the page shows: that the address is refused, the login, or the question.
type loginView struct {
	Title, Trouble string
	Refused        bool
	Self, Callback string
	Port           string
	Name           string // as it was typed
	User, Token    string
}

// ask makes it the question to that user, with a session for the command line.
func (v *loginView) ask(user, token string) {
	v.Title, v.User, v.Token = "Let the command line in?", user, token
}

// cliLogin shows the page: the question to who is logged in here, else the login.
func (a *API) cliLogin(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	v, ok := loginFor(w, r)
	if !ok {
		return nil
	}
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		token, actor, err := a.Auth.Sibling(r.Context(), cookie.Value)
		switch {
		case err == nil:
			v.ask(actor.Name, token)
		case !fault.Is(err, fault.Unauthenticated):
			return err
		}
	}
	return render(w, http.StatusOK, v)
}

// cliLoggingIn takes the name and the password, or forgets who was logged in.
func (a *API) cliLoggingIn(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	v, ok := loginFor(w, r)
	if !ok {
		return nil
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		v.Trouble = "This form was sent by another site. Nothing has happened."
		return render(w, http.StatusForbidden, v)
	}
	if err := r.ParseForm(); err != nil {
		return fault.Wrap(fault.Invalid, err, "the body is not a form")
	}
	if r.PostForm.Has("leave") {
		setSession(w, "", -time.Second)
		return render(w, http.StatusOK, v)
	}
	v.Name = r.PostForm.Get("username")
	session, err := a.Auth.Login(r.Context(), v.Name, r.PostForm.Get("password"), a.Auth.Address(r))
	switch fault.KindOf(err) {
	case fault.Unauthenticated, fault.Limited, fault.Unavailable:
		v.Trouble = sentence(err)
		retryAfter(w, err)
		return render(w, statuses[fault.KindOf(err)], v)
	}
	if err != nil {
		return err
	}
	token, actor, err := a.Auth.Sibling(r.Context(), session)
	if err != nil {
		return err
	}
	setSession(w, session, 7*24*time.Hour)
	v.ask(actor.Name, token)
	return render(w, http.StatusOK, v)
}

// loginStyle is the page's one style sheet.
func (a *API) loginStyle(w http.ResponseWriter, _ *http.Request, _ fleet.Actor) error {
	css, err := pages.ReadFile("page/login.css")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(css)
	return nil
}

// loginFor is the page for the address in the path. One that is no command line's on this computer is refused, on the
// page: a session is posted there. Every answer below the path is guarded here.
func loginFor(w http.ResponseWriter, r *http.Request) (v loginView, ok bool) {
	h := w.Header()
	h.Del("Access-Control-Allow-Origin") // this is for the person alone
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	policy := "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
	callback, err := localCallback(r.PathValue("callback"))
	if err != nil {
		h.Set("Content-Security-Policy", policy)
		_ = render(w, http.StatusBadRequest, loginView{Title: "This address is no command line's", Refused: true, Trouble: sentence(err)})
		return v, false
	}
	h.Set("Content-Security-Policy", policy+" http://"+callback.Host)
	return loginView{
		Title: "Log in to the command line", Port: callback.Port(), Callback: callback.String(),
		Self: "/login/cli/" + url.PathEscape(url.PathEscape(callback.String())),
	}, true
}

// localCallback reads the address that a command line listens on: encoded once more, since it stood in a path, or not.
func localCallback(given string) (*url.URL, error) {
	refused := fault.New(fault.Invalid, "the address to answer to is not one of a command line on this computer")
	plain, err := url.PathUnescape(given)
	if err != nil || len(given) > 200 {
		return nil, refused
	}
	u, err := url.Parse(plain)
	if err != nil {
		return nil, refused
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if host := u.Hostname(); err != nil || port == 0 || host != "127.0.0.1" && host != "localhost" {
		return nil, refused
	}
	// Nothing else may be in it: no user, query, fragment or other path.
	if plain != fmt.Sprintf("http://%s:%d/auth", u.Hostname(), port) {
		return nil, refused
	}
	return u, nil
}

func setSession(w http.ResponseWriter, session string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: session, Path: "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteStrictMode, MaxAge: int(life / time.Second)})
}

func render(w http.ResponseWriter, status int, v loginView) error {
	var page bytes.Buffer
	if err := loginPage.Execute(&page, v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes())
	return nil
}

// sentence is an error as a page says it.
func sentence(err error) string {
	text := fault.Message(err)
	if hint := fault.Hint(err); hint != "" {
		text += "; " + hint
	}
	return text
}
