package api_test

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// commandLine is what `balena login` listens with: it takes one token, in a form.
type commandLine struct {
	*httptest.Server
	tokens chan string
}

func newCommandLine(t *testing.T) *commandLine {
	c := &commandLine{tokens: make(chan string, 10)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/auth" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			http.Error(w, "Not found", http.StatusNotFound)
			return
		}
		c.tokens <- r.PostFormValue("token")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><p id=success>You may close this window</p>`)
	}))
	t.Cleanup(c.Close)
	return c
}

// page is where the command line sends the browser: its own address, encoded twice.
func (c *commandLine) page() string {
	return "/login/cli/" + strings.ReplaceAll(url.QueryEscape(c.URL+"/auth"), "%", "%25")
}

// visitor is a browser without a browser: cookies and forms.
type visitor struct {
	t      *testing.T
	s      *server
	cookie *http.Cookie
}

func (v *visitor) visit(method, target string, form url.Values, header ...string) (*http.Response, string) {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.s.URL+target, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if v.cookie != nil {
		req.AddCookie(v.cookie)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		if v.cookie = c; c.MaxAge < 0 {
			v.cookie = nil
		}
	}
	return resp, string(body)
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	tokenField = regexp.MustCompile(`<input type="hidden" name="token" value="([^"]*)">`)
)

func TestTheCommandLineIsLetInByAPage(t *testing.T) {
	s := newServer(t)
	c := newCommandLine(t)
	v := &visitor{t: t, s: s}
	resp, page := v.visit("GET", c.page(), nil)
	if resp.StatusCode != 200 || tokenField.MatchString(page) || v.cookie != nil {
		t.Fatalf("%d, cookie %v\n%s", resp.StatusCode, v.cookie, page)
	}
	policy := "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + c.URL
	guards := map[string]string{}
	for _, name := range []string{"Content-Security-Policy", "X-Frame-Options", "Referrer-Policy", "Cache-Control", "X-Content-Type-Options", "Content-Type"} {
		guards[name] = resp.Header.Get(name)
	}
	if diff := cmp.Diff(map[string]string{"Content-Security-Policy": policy, "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Type": "text/html; charset=utf-8"}, guards); diff != "" {
		t.Error(diff)
	}
	if got, there := resp.Header["Access-Control-Allow-Origin"]; there {
		t.Errorf("other sites may read it: %s", got)
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "style=") {
		t.Error("there is a script or a style in the page")
	}
	self := formAction.FindStringSubmatch(page)[1]

	resp, page = v.visit("POST", self, url.Values{"username": {`"><script>`}, "password": {"not the password"}})
	if resp.StatusCode != 401 || v.cookie != nil || !strings.Contains(page, "the user name or the password is wrong") || strings.Contains(page, "<script>") {
		t.Errorf("a wrong password: %d\n%s", resp.StatusCode, page)
	}
	if strings.Contains(page, "not the password") {
		t.Error("the page says the password")
	}

	resp, page = v.visit("POST", self, url.Values{"username": {"acme"}, "password": {password}})
	action, token := formAction.FindStringSubmatch(page), tokenField.FindStringSubmatch(page)
	if resp.StatusCode != 200 || action == nil || token == nil || action[1] != c.URL+"/auth" || !strings.Contains(page, "<b>acme</b>") {
		t.Fatalf("%d\n%s", resp.StatusCode, page)
	}
	if k := v.cookie; k == nil || !k.HttpOnly || !k.Secure || k.SameSite != http.SameSiteStrictMode || k.Path != "/" || !strings.HasPrefix(k.Name, "__Host-") || k.Domain != "" {
		t.Errorf("cookie %+v", k)
	}
	session := html.UnescapeString(token[1])
	if got := s.who(session); got != "acme" {
		t.Errorf("the token is %q's", got)
	}
	s.want(200, session, "POST", "/api-key/user/full", `{"name":"fresh"}`) // the password was given just now

	// Who is logged in is asked only.
	resp, page = v.visit("GET", c.page(), nil)
	if resp.StatusCode != 200 || !tokenField.MatchString(page) {
		t.Errorf("a second visit: %d\n%s", resp.StatusCode, page)
	}
	// And may be somebody else.
	_, page = v.visit("POST", self, url.Values{"leave": {"yes"}})
	if v.cookie != nil || tokenField.MatchString(page) {
		t.Errorf("after leaving: cookie %v\n%s", v.cookie, page)
	}

	css, _ := v.visit("GET", "/login/cli/page.css", nil)
	if css.StatusCode != 200 || css.Header.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("the style sheet: %d %s", css.StatusCode, css.Header.Get("Content-Type"))
	}
}

func TestTheLoginPagesCookieIsGoodForNothingElse(t *testing.T) {
	s := newServer(t)
	v := &visitor{t: t, s: s}
	v.visit("POST", newCommandLine(t).page(), url.Values{"username": {"acme"}, "password": {password}})
	if v.cookie == nil {
		t.Fatal("no cookie")
	}
	if resp, body := v.visit("GET", "/actor/v1/whoami", nil); resp.StatusCode != 401 {
		t.Errorf("the API takes the cookie: %d %s", resp.StatusCode, body)
	}
	// It ends with the session.
	now := time.Now().Add(8 * 24 * time.Hour)
	s.auth.Now = func() time.Time { return now }
	if _, page := v.visit("GET", newCommandLine(t).page(), nil); tokenField.MatchString(page) {
		t.Error("an expired session lets the command line in")
	}
	v.cookie.Value = s.token
	if _, page := v.visit("GET", newCommandLine(t).page(), nil); tokenField.MatchString(page) {
		t.Error("an API key as a cookie lets the command line in")
	}
}

func TestAnotherSiteCannotUseTheLoginPage(t *testing.T) {
	s := newServer(t)
	c := newCommandLine(t)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		v := &visitor{t: t, s: s}
		resp, page := v.visit("POST", c.page(), url.Values{"username": {"acme"}, "password": {password}}, header...)
		if resp.StatusCode != 403 || v.cookie != nil || tokenField.MatchString(page) {
			t.Errorf("%s: %d", header, resp.StatusCode)
		}
	}
	v := &visitor{t: t, s: s}
	if resp, _ := v.visit("POST", c.page(), url.Values{"username": {"acme"}, "password": {password}}, "Sec-Fetch-Site", "same-origin"); resp.StatusCode != 200 {
		t.Errorf("the page itself: %d", resp.StatusCode)
	}
}

func TestASessionIsPostedToThisComputerAlone(t *testing.T) {
	s := newServer(t)
	v := &visitor{t: t, s: s}
	page := newCommandLine(t).page()
	v.visit("POST", page, url.Values{"username": {"acme"}, "password": {password}})
	for _, callback := range []string{
		"https://127.0.0.1:8989/auth", "http://evil.example/auth", "http://evil.example:8989/auth", "http://127.0.0.1.evil.example:8989/auth",
		"http://127.0.0.1/auth", "http://127.0.0.1:/auth", "http://127.0.0.1:0/auth", "http://127.0.0.1:70000/auth", "http://127.0.0.1:08989/auth",
		"http://127.0.0.1:8989/", "http://127.0.0.1:8989/auth/", "http://127.0.0.1:8989/auth?x=y", "http://127.0.0.1:8989/auth#x", "http://127.0.0.1:8989/auth?",
		"http://127.0.0.1:8989@evil.example:1/auth", "http://me@127.0.0.1:8989/auth", "http://127.0.0.2:8989/auth", "http://[::1]:8989/auth",
		"http://localhost.:8989/auth", "HTTP://127.0.0.1:8989/auth", "javascript:alert(1)", "//127.0.0.1:8989/auth", "x", "%",
		"http://127.0.0.1:8989/auth\r\nSet-Cookie: a=b", "http://127.0.0.1:8989; script-src *:1/auth", strings.Repeat("x", 3000),
	} {
		once := "/login/cli/" + url.PathEscape(callback)
		for _, target := range []string{once, "/login/cli/" + url.PathEscape(url.PathEscape(callback))} {
			for _, method := range []string{"GET", "POST"} {
				resp, body := v.visit(method, target, url.Values{"username": {"acme"}, "password": {password}})
				if resp.StatusCode != 400 || tokenField.MatchString(body) || strings.Contains(body, "<form") || !strings.Contains(body, "Nothing has happened") {
					t.Errorf("%s %s: %d\n%s", method, target, resp.StatusCode, body)
				}
				if policy := resp.Header.Get("Content-Security-Policy"); !strings.HasSuffix(policy, "form-action 'self'") {
					t.Errorf("%s: %s", target, policy)
				}
			}
		}
	}
	for _, callback := range []string{"http://127.0.0.1:8989/auth", "http://localhost:1/auth", "http://127.0.0.1:65535/auth"} {
		for _, target := range []string{"/login/cli/" + url.PathEscape(callback), "/login/cli/" + url.PathEscape(url.PathEscape(callback))} {
			resp, body := v.visit("GET", target, nil)
			if action := formAction.FindStringSubmatch(body); resp.StatusCode != 200 || action == nil || action[1] != callback {
				t.Errorf("%s: %d\n%s", target, resp.StatusCode, body)
			}
		}
	}
}

// The walk of a person, in a real browser: it takes the cookie over plain HTTP on this computer, and obeys the policy.
func TestABrowserLetsTheCommandLineIn(t *testing.T) {
	s := newServer(t)
	b := openChromium(t)
	first := newCommandLine(t)
	b.open(s.URL + first.page())
	b.until("document.activeElement.id === 'username'")
	b.write("acme@example.org")
	b.key("Tab", 9)
	b.write("not the password")
	b.key("Enter", 13)
	b.until("document.querySelector('[role=alert]')")
	if got := b.text("[role=alert]"); got != "the user name or the password is wrong" {
		t.Errorf("refused with %q", got)
	}
	b.until("document.activeElement.id === 'username' && document.activeElement.value === 'acme@example.org'")
	b.key("Tab", 9)
	b.write(password)
	b.key("Enter", 13)
	b.until("document.querySelector('[name=token]')")
	b.until("getComputedStyle(document.querySelector('main')).borderStyle === 'solid'") // the style sheet is there
	if got := b.text("h1"); got != "Let the command line in?" {
		t.Errorf("asked %q", got)
	}
	b.key("Enter", 13) // the button has the focus
	b.until("document.querySelector('#success')")
	if got := s.who(<-first.tokens); got != "acme" {
		t.Errorf("the command line got a token of %q", got)
	}

	// Logged in already: one press.
	second := newCommandLine(t)
	b.open(s.URL + second.page())
	b.until("document.querySelector('[name=token]')")
	b.click("button")
	b.until("document.querySelector('#success')")
	if got := s.who(<-second.tokens); got != "acme" {
		t.Errorf("the second command line got a token of %q", got)
	}

	b.open(s.URL + second.page())
	b.until("document.querySelector('button.quiet')")
	b.click("button.quiet")
	b.until("document.querySelector('#password')")
	b.open(s.URL + second.page())
	b.until("document.querySelector('#password')") // and it is forgotten

	if said := b.complaints(); len(said) > 0 {
		t.Errorf("the console says: %q", said)
	}
}
