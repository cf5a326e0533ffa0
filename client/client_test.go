package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/client"
)

// server answers every request with handle and remembers what it was asked.
func server(t *testing.T, handle http.HandlerFunc) (*client.Client, *[]string) {
	t.Helper()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	return &client.Client{URL: s.URL, Token: "t0ken"}, &asked
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestWhatAPersonTypedStaysAValue(t *testing.T) {
	c, asked := server(t, answer(200, `{"d":[]}`))
	var out []client.Row
	err := c.Get(t.Context(), "device", client.Query{
		Select: []string{"id"}, Filter: client.Filter("device_name eq ? and id gt ?", "o'brien' or 1 eq 1?&$top=0", 7), OrderBy: "id asc", Top: 3, Skip: 1,
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"GET /v7/device?$select=id&$filter=device_name%20eq%20%27o%27%27brien%27%27%20or%201%20eq%201%3F%26%24top%3D0%27%20and%20id%20gt%207&$orderby=id%20asc&$top=3&$skip=1"}
	if diff := cmp.Diff(want, *asked); diff != "" {
		t.Error(diff)
	}
}

func TestLiteralsAreWrittenAsODataDoes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("", 3600))
	for _, row := range []struct{ got, want string }{
		{client.Filter("a eq ? or b eq ?", true, nil), "a eq true or b eq null"},
		{client.Filter("a gt ?", at), "a gt datetime'2026-01-02T02:04:05.006Z'"},
		{client.Key("device", int64(7)), "device(7)"},
		{client.Key("device", "uuid", "7cf0"), "device(uuid='7cf0')"},
		{client.Key("service", "application", 5, "service_name", "a/b'c"), "service(application=5,service_name='a%2Fb''c')"},
		{client.And("", "a eq 1", ""), "a eq 1"},
		{client.And("a eq 1", "b eq 2 or c eq 3"), "(a eq 1) and (b eq 2 or c eq 3)"},
	} {
		if row.got != row.want {
			t.Errorf("got %s, want %s", row.got, row.want)
		}
	}
}

func TestAReferenceIsReadInEachOfItsForms(t *testing.T) {
	for _, row := range []struct {
		wire, slug string
		id         int64
	}{
		{`null`, "", 0},
		{`{"__id": 5}`, "", 5},
		{`[]`, "", 0},
		{`[{"slug":"home/porch"}]`, "home/porch", 0},
		{`[{"id":5,"slug":"home/porch"}]`, "home/porch", 5},
	} {
		var d client.Device
		if err := json.Unmarshal([]byte(`{"id":1,"belongs_to__application":`+row.wire+`}`), &d); err != nil {
			t.Fatalf("%s: %v", row.wire, err)
		}
		if d.Fleet.ID != row.id || d.Fleet.Value().Slug != row.slug {
			t.Errorf("%s was read as %d %q", row.wire, d.Fleet.ID, d.Fleet.Value().Slug)
		}
	}
	var d client.Device
	if err := json.Unmarshal([]byte(`{"belongs_to__application":"x"}`), &d); err == nil {
		t.Error("a string was taken for a reference")
	}
}

func TestARowIsWrittenAsTheServerWroteIt(t *testing.T) {
	const row = `{"id":7,"device_name":"porch","note":null,"image_size":"12","later":{"x":[1]}}`
	c, _ := server(t, answer(200, `{"d":[`+row+`]}`))
	devices, err := c.Devices(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(devices); err != nil || string(b) != "["+row+"]" {
		t.Errorf("wrote %s, %v", b, err)
	}
	if devices[0].Name != "porch" {
		t.Errorf("read %+v", devices[0])
	}
}

func TestANewRowComesBare(t *testing.T) {
	c, asked := server(t, answer(201, `{"id":9,"app_name":"porch","slug":"home/porch","organization":{"__id":3}}`))
	f, err := c.CreateFleet(t.Context(), client.NewFleet{Name: "porch", Organization: 3, DeviceType: 58})
	if err != nil || f.ID != 9 || f.Organization.ID != 3 {
		t.Errorf("read %+v, %v", f, err)
	}
	want := []string{`POST /v7/application {"app_name":"porch","is_for__device_type":58,"is_of__class":"fleet","organization":3}`}
	if diff := cmp.Diff(want, *asked); diff != "" {
		t.Error(diff)
	}
}

func TestARefusalIsReadInEachOfItsForms(t *testing.T) {
	for name, row := range map[string]struct {
		status      int
		kind, body  string
		want        client.Error
		description string
	}{
		"text":        {401, "text/plain", "Unauthorized\n", client.Error{Status: 401, Message: "Unauthorized"}, "Unauthorized"},
		"JSON string": {409, "application/json", `"\"uuid\" must be unique."`, client.Error{Status: 409, Message: `"uuid" must be unique.`}, `"uuid" must be unique.`},
		"JSON object": {401, "application/json", `{"error":"API key required"}`, client.Error{Status: 401, Message: "API key required"}, "API key required"},
		"with hint":   {400, "text/plain", "no such type\nhint: look at the list\n", client.Error{Status: 400, Message: "no such type", Hint: "look at the list"}, "no such type"},
		"empty":       {403, "text/plain", "", client.Error{Status: 403, Message: "the server answered 403 Forbidden"}, "the server answered 403 Forbidden"},
		"proxy":       {502, "text/html", "<h1>nginx</h1>", client.Error{Status: 502, Message: "the server answered 502 Bad Gateway"}, "the server answered 502 Bad Gateway"},
		"internal":    {500, "text/plain", "internal error", client.Error{Status: 500, Message: "internal error", RequestID: "r-7"}, "internal error (request r-7)"},
		"limited":     {429, "text/plain", "too many tries", client.Error{Status: 429, Message: "too many tries", RetryAfter: 60 * time.Second}, "too many tries"},
	} {
		c, asked := server(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", row.kind)
			if row.want.RequestID != "" {
				w.Header().Set("X-Request-Id", row.want.RequestID)
			}
			if row.want.RetryAfter != 0 {
				w.Header().Set("Retry-After", "60")
			}
			w.WriteHeader(row.status)
			_, _ = io.WriteString(w, row.body)
		})
		_, err := c.Whoami(t.Context())
		var e *client.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if diff := cmp.Diff(row.want, *e); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err.Error() != row.description {
			t.Errorf("%s: says %q", name, err)
		}
		if len(*asked) != 1 {
			t.Errorf("%s: asked %d times", name, len(*asked))
		}
	}
}

func TestTheTokenIsNeverCarriedElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusMovedPermanently)
	})
	_, err := c.Whoami(t.Context())
	if client.StatusOf(err) != 301 || !strings.Contains(err.Error(), elsewhere.URL) {
		t.Errorf("got %v", err)
	}
}

func TestAnAnswerThatIsNoneOfOursIsAnError(t *testing.T) {
	for _, body := range []string{"", "<html>", `{}`, `{"d":{}}`, `[]`, `{"d":[{"id":"x"}]}`} {
		c, _ := server(t, answer(200, body))
		if rows, err := c.Devices(t.Context(), ""); err == nil {
			t.Errorf("%q was read as %v", body, rows)
		}
	}
	for _, body := range []string{"", "<html>x</html>", "two words"} {
		c, _ := server(t, answer(200, body))
		if token, err := c.Login(t.Context(), "admin", "secret"); err == nil {
			t.Errorf("%q was taken for a token: %q", body, token)
		}
	}
}

func TestLogInSendsThePasswordAndReadsPlainText(t *testing.T) {
	c, asked := server(t, answer(200, "aaa.bbb.ccc\n"))
	token, err := c.Login(t.Context(), "admin", "secret")
	if err != nil || token != "aaa.bbb.ccc" {
		t.Errorf("got %q, %v", token, err)
	}
	if diff := cmp.Diff([]string{`POST /login_ {"password":"secret","username":"admin"}`}, *asked); diff != "" {
		t.Error(diff)
	}
}

func TestAProvisioningKeyIsAskedForAsBalenasToolsDo(t *testing.T) {
	c, asked := server(t, answer(200, `"k3y"`))
	key, err := c.CreateProvisioningKey(t.Context(), client.NewKey{Fleet: 7, Name: "bench", Expires: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	if err != nil || key != "k3y" {
		t.Fatalf("got %q, %v", key, err)
	}
	if _, err := c.CreateProvisioningKey(t.Context(), client.NewKey{Fleet: 7}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`POST /api-key/v2/ {"actorType":"application","actorTypeId":7,"expiryDate":"2026-01-02T03:04:05.000Z","name":"bench","roles":["provisioning-api-key"]}`,
		`POST /api-key/v2/ {"actorType":"application","actorTypeId":7,"expiryDate":null,"roles":["provisioning-api-key"]}`,
	}
	if diff := cmp.Diff(want, *asked); diff != "" {
		t.Error(diff)
	}
}

func TestSettingAVariableThatIsThereChangesIt(t *testing.T) {
	c, asked := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `"\"application\" and \"name\" must be unique."`)
		}
	})
	if err := c.SetVariable(t.Context(), client.VariableScope{Fleet: 7}, "MODE", "night"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`POST /v7/application_environment_variable {"application":7,"name":"MODE","value":"night"}`,
		`PATCH /v7/application_environment_variable?$filter=application%20eq%207%20and%20name%20eq%20%27MODE%27 {"value":"night"}`,
	}
	if diff := cmp.Diff(want, *asked); diff != "" {
		t.Error(diff)
	}
}

func TestAConfigVariableIsToldByItsName(t *testing.T) {
	v := client.VariableNames{ReservedNamespaces: []string{"BALENA_", "RESIN_"}, WhiteListedNames: []string{"ODD"}, WhiteListedNamespaces: []string{"HOST_", ""}}
	for name, want := range map[string]bool{"BALENA_SUPERVISOR_POLL_INTERVAL": true, "RESIN_X": true, "ODD": true, "HOST_X": true, "ODDER": false, "MODE": false} {
		if got := v.Config(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// trips answers requests in the process, for tests of time.
type trips func(*http.Request) (*http.Response, error)

func (f trips) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(status int, header http.Header, body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: status, Header: header, Body: body}
}

func text(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

func TestOnlyAGETIsAskedAgain(t *testing.T) {
	refused := fmt.Errorf("dial tcp: %w", syscall.ECONNREFUSED)
	for _, row := range []struct {
		name  string
		first func() (*http.Response, error)
		post  bool
		want  int // requests
		waits time.Duration
		fails bool
	}{
		{name: "connection refused once", first: func() (*http.Response, error) { return nil, refused }, want: 2, waits: 200 * time.Millisecond},
		{name: "connection cut once", first: func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, want: 2, waits: 200 * time.Millisecond},
		{name: "busy, says when", first: func() (*http.Response, error) {
			return response(503, http.Header{"Retry-After": {"3"}}, text("busy")), nil
		}, want: 2, waits: 3 * time.Second},
		{name: "busy, says nothing", first: func() (*http.Response, error) { return response(503, nil, text("busy")), nil }, want: 1, fails: true},
		{name: "busy for an hour", first: func() (*http.Response, error) {
			return response(503, http.Header{"Retry-After": {"3600"}}, text("busy")), nil
		}, want: 1, fails: true},
		{name: "not there", first: func() (*http.Response, error) { return response(404, nil, text("")), nil }, want: 1, fails: true},
		{name: "a POST", post: true, first: func() (*http.Response, error) { return nil, refused }, want: 1, fails: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c := &client.Client{URL: "http://server", HTTP: &http.Client{Transport: trips(func(*http.Request) (*http.Response, error) {
					if asked++; asked == 1 {
						return row.first()
					}
					return response(200, nil, text(`{"id":1}`)), nil
				})}}
				start := time.Now()
				var err error
				if row.post {
					err = c.Create(t.Context(), "device", map[string]any{}, nil)
				} else {
					_, err = c.Whoami(t.Context())
				}
				if asked != row.want || (err != nil) != row.fails || time.Since(start) != row.waits {
					t.Errorf("asked %d times in %v: %v", asked, time.Since(start), err)
				}
			})
		})
	}
}

func TestAServerThatStaysAwayIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := &client.Client{URL: "http://server", HTTP: &http.Client{Transport: trips(func(*http.Request) (*http.Response, error) {
			asked++
			return nil, fmt.Errorf("dial tcp: %w", syscall.ECONNREFUSED)
		})}}
		_, err := c.Whoami(t.Context())
		if err == nil || err.Error() != "cannot reach http://server: dial tcp: connection refused" || asked != 3 {
			t.Errorf("asked %d times: %v", asked, err)
		}
	})
}

func TestAServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client.Client{URL: "http://server", Timeout: time.Second, HTTP: &http.Client{Transport: trips(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}}
		start := time.Now()
		_, err := c.Whoami(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no answer within 1s") || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Whoami(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled request says %v", err)
		}
	})
}

func TestASizeIsReadFromAStringOfDigits(t *testing.T) {
	for wire, want := range map[string]client.Bytes{`"9007199254740993"`: 9007199254740993, `12`: 12, `null`: 0} {
		var n client.Bytes
		if err := json.Unmarshal([]byte(wire), &n); err != nil || n != want {
			t.Errorf("%s: %d, %v", wire, n, err)
		}
	}
	var n client.Bytes
	if err := json.Unmarshal([]byte(`"many"`), &n); err == nil {
		t.Error("a word was taken for a size")
	}
}
