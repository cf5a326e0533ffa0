package secret_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/remote-monitor/secret"
)

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTheLastPlaceWins(t *testing.T) {
	folder := t.TempDir()
	file := write(t, filepath.Join(t.TempDir(), "pw"), "from the file\r\n")
	write(t, filepath.Join(folder, "THIRD"), "from the folder\n")
	write(t, filepath.Join(folder, "fourth"), "lower\n")
	r := &secret.Resolver{Folder: folder, Environ: []string{
		"FIRST= plain ", "SECOND=plain", "SECOND_FILE=" + file, "THIRD=plain", "THIRD_FILE=" + file, "EMPTY=", "ONLY_FILE=" + file,
	}}
	for _, c := range []struct {
		name, want string
		found      bool
	}{
		{"FIRST", "plain", true},
		{"SECOND", "from the file", true},
		{"THIRD", "from the folder", true},
		{"FOURTH", "lower", true},
		{"ONLY", "from the file", true},
		{"EMPTY", "", false},
		{"NOTHING", "", false},
		{"../" + filepath.Base(folder) + "/THIRD", "", false},
		{"", "", false},
	} {
		got, found, err := r.Lookup(t.Context(), c.name)
		if err != nil || got != c.want || found != c.found {
			t.Errorf("%q: got %q, %v, %v; want %q, %v", c.name, got, found, err, c.want, c.found)
		}
	}
}

func TestAFileThatIsNoSecretIsAnError(t *testing.T) {
	dir := t.TempDir()
	big := write(t, filepath.Join(dir, "big"), strings.Repeat("x", 65<<10))
	r := &secret.Resolver{Environ: []string{"A_FILE=" + filepath.Join(dir, "none"), "B_FILE=" + big, "C_FILE=" + dir}}
	for name, want := range map[string]string{"A": "A_FILE: ", "B": "more than 65536 bytes", "C": "no file that can be read"} {
		if v, ok, err := r.Lookup(t.Context(), name); err == nil || ok || v != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v, %v; want an error with %q", name, v, ok, err, want)
		}
	}
}

// vaultID and itemID are as 1Password makes them.
const (
	vaultID = "ftz4pm2xxwmwrsd7rjqn7grzfz"
	itemID  = "2fcbqwe9ndg175zg2dzwftvkpa"
	token   = "token-of-this-test"
)

// connect is a 1Password Connect server with one vault and one item, as its documentation says it answers.
type connect struct {
	*httptest.Server
	answers int
	broken  int // status of every answer; 0: it works
}

func newConnect(t *testing.T) *connect {
	c := &connect{}
	mux := http.NewServeMux()
	reply := func(pattern string, answer func(filter string) any) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, req *http.Request) {
			c.answers++
			if c.broken != 0 {
				w.WriteHeader(c.broken)
				return
			}
			if req.Header.Get("Authorization") != "Bearer "+token {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer(req.URL.Query().Get("filter")))
		})
	}
	type m = map[string]any
	reply("/v1/vaults", func(filter string) any {
		switch filter {
		case `name eq "Home"`:
			return []m{{"id": vaultID, "name": "Home", "items": 2}}
		case `name eq "Twice"`:
			return []m{{"id": vaultID, "name": "Twice"}, {"id": itemID, "name": "Twice"}}
		}
		return []m{}
	})
	reply("/v1/vaults/"+vaultID+"/items", func(filter string) any {
		if filter == `title eq "Message broker"` {
			return []m{{"id": itemID, "title": "Message broker", "vault": m{"id": vaultID}}}
		}
		return []m{}
	})
	reply("/v1/vaults/"+vaultID+"/items/"+itemID, func(string) any {
		return m{
			"id": itemID, "title": "Message broker", "vault": m{"id": vaultID},
			"sections": []m{{"id": "s1", "label": "MQTT"}, {"id": "s2", "label": "AMQP"}},
			"fields": []m{
				{"id": "password", "label": "password", "type": "CONCEALED", "purpose": "PASSWORD", "value": "loose"},
				{"id": "f1", "label": "password", "value": "of mqtt", "section": m{"id": "s1"}},
				{"id": "f2", "label": "password", "value": "of amqp", "section": m{"id": "s2", "label": "AMQP"}},
				{"id": "f3", "label": "host", "value": "a", "section": m{"id": "s1"}},
				{"id": "f4", "label": "host", "value": "b", "section": m{"id": "s2"}},
				{"id": "f5", "label": "user", "value": "gate", "section": m{"id": "s1"}},
				{"id": "f6", "label": "empty", "value": ""},
			},
		}
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func (c *connect) resolver(more ...string) *secret.Resolver {
	return &secret.Resolver{Environ: append([]string{"OP_CONNECT_HOST=" + c.URL, "OP_CONNECT_TOKEN=" + token}, more...)}
}

func TestAReferenceIsReadFromConnect(t *testing.T) {
	c := newConnect(t)
	for ref, want := range map[string]string{
		"op://Home/Message broker/password":             "loose",
		"op://Home/Message broker/MQTT/password":        "of mqtt",
		"op://Home/Message broker/s2/f2":                "of amqp",
		"op://Home/Message broker/amqp/PASSWORD":        "of amqp",
		"op://Home/Message broker/user":                 "gate",
		"op://" + vaultID + "/Message broker/user":      "gate",
		"op://" + vaultID + "/" + itemID + "/MQTT/user": "gate",
		"op://Message broker/user":                      "gate",
	} {
		r := c.resolver("SECRET="+ref, "OP_CONNECT_VAULT=Home")
		for _, name := range []string{"SECRET", ref} {
			got, found, err := r.Lookup(t.Context(), name)
			if err != nil || !found || got != want {
				t.Errorf("%s: got %q, %v, %v; want %q", name, got, found, err, want)
			}
		}
	}
}

func TestAReferenceThatCannotBeReadSaysWhy(t *testing.T) {
	c := newConnect(t)
	for ref, want := range map[string]string{
		"op://":                                "is no reference",
		"op://a/b/c/d/e":                       "is no reference",
		"op://Home//password":                  "has an empty part",
		"op://Home/Message broker//password":   "has an empty part",
		"op://broker/password":                 "set OP_CONNECT_VAULT",
		`op://Home/x" or name eq "Home/y`:      "has quotes in it",
		"op://Garden/Message broker/password":  "no vault called Garden",
		"op://Twice/Message broker/password":   "there are 2 vaults called Twice",
		"op://Home/Other/password":             "no item called Other",
		"op://Home/Message broker/pin":         "no field called pin",
		"op://Home/Message broker/AMQP/user":   "no field called user",
		"op://Home/Message broker/host":        "2 fields called host",
		"op://Home/Message broker/empty":       "is empty",
		"op://" + itemID + "/Message broker/x": "it answered 404",
	} {
		v, found, err := c.resolver().Lookup(t.Context(), ref)
		if err == nil || found || v != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v, %v; want an error with %q", ref, v, found, err, want)
		}
	}
}

func TestATokenThatIsRefusedIsToldAndNeverShown(t *testing.T) {
	c := newConnect(t)
	r := &secret.Resolver{Environ: []string{"OP_CONNECT_HOST=" + c.URL, "OP_CONNECT_TOKEN=wrong-one"}}
	_, _, err := r.Lookup(t.Context(), "op://Home/Message broker/password")
	if err == nil || !strings.Contains(err.Error(), "OP_CONNECT_TOKEN") || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("got %v", err)
	}
}

func TestTheTokenIsNotCarriedElsewhere(t *testing.T) {
	seen := ""
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { seen = req.Header.Get("Authorization") }))
	defer thief.Close()
	c := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusFound))
	defer c.Close()
	r := &secret.Resolver{Environ: []string{"OP_CONNECT_HOST=" + c.URL, "OP_CONNECT_TOKEN=" + token}}
	if _, _, err := r.Lookup(t.Context(), "op://Home/Message broker/password"); err == nil || seen != "" {
		t.Errorf("got %v, and the other server saw %q", err, seen)
	}
}

func TestADeviceStartsWhileConnectIsAway(t *testing.T) {
	c := newConnect(t)
	cache := filepath.Join(t.TempDir(), "secrets.json")
	const ref = "op://Home/Message broker/password"
	first := c.resolver()
	first.Cache = cache
	if v, _, err := first.Lookup(t.Context(), ref); err != nil || v != "loose" {
		t.Fatalf("got %q, %v", v, err)
	}
	info, err := os.Stat(cache)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the cache is %v, %v; want it for its user alone", info.Mode(), err)
	}

	var log bytes.Buffer
	again := func(environ ...string) *secret.Resolver {
		return &secret.Resolver{Environ: environ, Cache: cache, Log: slog.New(slog.NewTextHandler(&log, nil))}
	}
	c.broken = http.StatusServiceUnavailable
	up := []string{"OP_CONNECT_HOST=" + c.URL, "OP_CONNECT_TOKEN=" + token}
	for what, r := range map[string]*secret.Resolver{
		"in trouble":        again(up...),
		"not to be reached": again("OP_CONNECT_HOST=http://127.0.0.1:1", "OP_CONNECT_TOKEN="+token),
		"not configured":    again(),
	} {
		if v, found, err := r.Lookup(t.Context(), ref); err != nil || !found || v != "loose" {
			t.Errorf("Connect is %s: got %q, %v, %v", what, v, found, err)
		}
		if v, found, err := r.Lookup(t.Context(), "op://Home/Message broker/user"); err == nil || found {
			t.Errorf("Connect is %s: got %q, %v for what was never read", what, v, found)
		}
	}
	if strings.Contains(log.String(), "loose") || strings.Contains(log.String(), token) || !strings.Contains(log.String(), "kept secret is used") {
		t.Errorf("the log is %q", log.String())
	}

	// A token that was taken back is an answer, not an absence.
	c.broken = http.StatusForbidden
	if v, found, err := again(up...).Lookup(t.Context(), ref); err == nil || found {
		t.Errorf("got %q, %v, %v although Connect refuses", v, found, err)
	}
}

func TestACacheThatIsOpenToOthersIsNotTrusted(t *testing.T) {
	const ref = "op://Home/Message broker/password"
	for what, prepare := range map[string]func(file string){
		"readable by others": func(file string) {
			write(t, file, `{"`+ref+`":"planted"}`)
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"damaged":   func(file string) { write(t, file, `{"`+ref+`":`) },
		"a link":    func(file string) { _ = os.Symlink(write(t, file+".real", `{"`+ref+`":"planted"}`), file) },
		"nothing":   func(file string) { write(t, file, "null") },
		"too large": func(file string) { write(t, file, strings.Repeat(" ", 2<<20)) },
	} {
		cache := filepath.Join(t.TempDir(), "secrets.json")
		prepare(cache)
		r := &secret.Resolver{Cache: cache}
		if v, found, err := r.Lookup(t.Context(), ref); err == nil || found {
			t.Errorf("%s: got %q, %v, %v", what, v, found, err)
		}
		c := newConnect(t)
		r = c.resolver()
		r.Cache = cache
		if v, _, err := r.Lookup(t.Context(), ref); err != nil || v != "loose" {
			t.Errorf("%s: got %q, %v with Connect there", what, v, err)
		}
	}
}

func TestConnectIsAskedOnceForASecretAndNotAgainWhenItIsAway(t *testing.T) {
	c := newConnect(t)
	r := c.resolver()
	for range 3 {
		if _, _, err := r.Lookup(t.Context(), "op://Home/Message broker/user"); err != nil {
			t.Fatal(err)
		}
	}
	if c.answers != 3 { // vault, item, fields
		t.Errorf("it was asked %d times", c.answers)
	}
	c.broken, c.answers = http.StatusBadGateway, 0
	r = c.resolver()
	for _, ref := range []string{"op://Home/Message broker/user", "op://Home/Message broker/password"} {
		if _, _, err := r.Lookup(t.Context(), ref); err == nil {
			t.Error("it answered")
		}
	}
	if c.answers != 1 {
		t.Errorf("it was asked %d times while it was away", c.answers)
	}
}

func TestAnAnswerThatIsNoneIsRefused(t *testing.T) {
	for what, body := range map[string]string{
		"a page":       "<html>top-secret</html>",
		"too long":     "[" + strings.Repeat(" ", 1<<20) + "]",
		"another kind": `{"id":"top-secret"}`,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		r := &secret.Resolver{Environ: []string{"OP_CONNECT_HOST=" + s.URL, "OP_CONNECT_TOKEN=x"}}
		_, found, err := r.Lookup(t.Context(), "op://Home/Message broker/user")
		if err == nil || found || strings.Contains(err.Error(), "top-secret") {
			t.Errorf("%s: got %v, %v", what, found, err)
		}
		s.Close()
	}
}

func FuzzAnyNameAndValueIsLookedUpOrRefused(f *testing.F) {
	f.Add("NAME", "value")
	f.Add("NAME", "op://a/b/c")
	f.Add("op://a/b", "x")
	f.Add("../../etc/passwd", "op:///")
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, name, value string) {
		r := &secret.Resolver{Environ: []string{name + "=" + value}, Folder: folder}
		v, found, err := r.Lookup(t.Context(), name)
		if found && err != nil || !found && v != "" {
			t.Errorf("%q=%q: %q, %v, %v", name, value, v, found, err)
		}
	})
}
