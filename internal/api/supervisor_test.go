package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dunlin/dunlin/internal/fleet"
)

// link leads to the supervisors of some devices, each a real HTTP server.
type link struct {
	mu   sync.Mutex
	ways map[string]http.RoundTripper // by uuid
}

func (l *link) Transport(uuid string) (http.RoundTripper, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	way, ok := l.ways[uuid]
	return way, ok
}

func (l *link) connect(uuid string, way http.RoundTripper) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ways == nil {
		l.ways = map[string]http.RoundTripper{}
	}
	l.ways[uuid] = way
}

// supervised connects a device to a supervisor that answers with h, and says what it was asked.
func (s *server) supervised(d fleet.Device, port int, h http.HandlerFunc) (asked func() []string) {
	s.t.Helper()
	var mu sync.Mutex
	var all []string
	supervisor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		all = append(all, fmt.Sprintf("%s %s%s %s %s", r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("Content-Type"), body))
		mu.Unlock()
		h(w, r)
	}))
	s.t.Cleanup(supervisor.Close)
	s.exec(`UPDATE devices SET api_port = $1, api_secret = $2 WHERE id = $3`, port, "secret of "+d.UUID[:4], d.ID)
	s.link.connect(d.UUID, &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, supervisor.Listener.Addr().String())
	}})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK") }

func TestACallReachesTheSupervisorItIsForWithItsOwnKey(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	d, _ := s.device(id, "")
	other, _ := s.device(id, "")
	asked := s.supervised(d, 48484, ok)
	elsewhere := s.supervised(other, 48484, ok)
	key := strings.ReplaceAll("secret of "+d.UUID[:4], " ", "+")
	for body, want := range map[string]string{
		fmt.Sprintf(`{"uuid":%q,"data":{"force":true}}`, d.UUID):                      `POST %s.balena:48484/v1/reboot?apikey=%s application/json {"force":true}`,
		fmt.Sprintf(`{"deviceId":%d,"appId":%d,"data":{"appId":%[2]d}}`, d.ID, id):    `POST %s.balena:48484/v1/reboot?apikey=%s application/json {"appId":` + fmt.Sprint(id) + `}`,
		fmt.Sprintf(`{"deviceId":"%d","method":"put"}`, d.ID):                         `PUT %s.balena:48484/v1/reboot?apikey=%s  `,
		fmt.Sprintf(`{"uuid":%q,"method":"GET","data":{"x":1},"appId":null}`, d.UUID): `GET %s.balena:48484/v1/reboot?apikey=%s  `,
	} {
		before := len(asked())
		if got := string(s.want(200, s.token, "POST", "/supervisor/v1/reboot", body)); got != "OK" {
			t.Errorf("%s: %s", body, got)
		}
		got := asked()[before:]
		if len(got) != 1 || got[0] != fmt.Sprintf(want, d.UUID, key) {
			t.Errorf("%s: the supervisor was asked %q, want %q", body, got, fmt.Sprintf(want, d.UUID, key))
		}
	}
	if got := elsewhere(); len(got) > 0 {
		t.Errorf("another device was asked %q", got)
	}
}

func TestWhatASupervisorAnswersIsPassedOnIfItIsData(t *testing.T) {
	s := newServer(t)
	d, _ := s.device(s.fleet("porch"), "")
	var answer atomic.Pointer[http.HandlerFunc]
	s.supervised(d, 0, func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) })
	say := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const bad = `{"error":"Bad API response from supervisor"}`
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
		body   string
	}{
		"JSON":                {say(200, "application/json", `{"Data":"OK","Error":null}`), 200, `{"Data":"OK","Error":null}`},
		"a locked one":        {say(423, "text/html; charset=utf-8", "Updates are locked"), 423, "Updates are locked"},
		"nothing":             {say(204, "", ""), 204, ""},
		"a page":              {say(200, "text/html", "<script>alert(1)</script>"), 500, bad},
		"JSON that is none":   {say(200, "application/json", "{"), 500, bad},
		"an image":            {say(200, "image/png", "x"), 500, bad},
		"a redirection":       {say(302, "text/plain", "elsewhere"), 302, "elsewhere"},
		"more than is good":   {say(200, "text/plain", strings.Repeat("a", 1<<20+1)), 500, bad},
		"a broken connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, `{"error":"the device could not be reached"}`},
		"half an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 502, `{"error":"the device broke off its answer"}`},
	} {
		answer.Store(&c.answer)
		resp, got := s.send(s.token, "POST", "/supervisor/v1/restart", fmt.Sprintf(`{"uuid":%q}`, d.UUID))
		if resp.StatusCode != c.status || string(got) != c.body {
			t.Errorf("%s: %d %.100s, want %d %s", name, resp.StatusCode, got, c.status, c.body)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(resp.Header.Get("Content-Type"), "html") || resp.Header.Get("Location") != "" {
			t.Errorf("%s is passed on with %v", name, resp.Header)
		}
	}
	s.Close() // what it writes into its log is written
	if strings.Contains(s.log.String(), "secret") {
		t.Errorf("the log has the device's key: %s", s.log.String())
	}
}

func TestACallToAFleetIsAnsweredByEachDeviceThatIsThere(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	var connected []func() []string
	for i := range 3 {
		d, _ := s.device(id, "")
		if i < 2 {
			connected = append(connected, s.supervised(d, 48484, func(w http.ResponseWriter, _ *http.Request) {
				if i == 1 {
					w.WriteHeader(http.StatusLocked)
				}
				_, _ = fmt.Fprintf(w, `{"n":%d}`, i)
			}))
		}
	}
	var all []struct {
		StatusCode int
		Body       any
	}
	if err := json.Unmarshal(s.want(207, s.token, "POST", "/supervisor/v1/purge", fmt.Sprintf(`{"appId":%d,"data":{"appId":%[1]d}}`, id)), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].StatusCode != 200 || all[1].StatusCode != 423 {
		t.Errorf("%+v", all)
	}
	s.want(207, s.token, "POST", fmt.Sprintf("/application/%d/restart/", id), "")
	for _, asked := range connected {
		got := asked()
		if len(got) != 2 || !strings.HasPrefix(got[0], "POST ") || !strings.Contains(got[1], "/v1/restart?") || !strings.HasSuffix(got[1], fmt.Sprintf(`{"appId":%d}`, id)) {
			t.Errorf("a device was asked %q", got)
		}
	}
}

func TestADeviceThatIsAwayOrNotOnesOwnIsNotCalled(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	d, key := s.device(id, "")
	away, _ := s.device(id, "")
	asked := s.supervised(d, 48484, ok)
	_, stranger := s.newUser("globex")
	_, observer := s.colleague("olga", "observer")
	_, operator := s.colleague("otto", "operator")
	post, get := fmt.Sprintf(`{"uuid":%q}`, d.UUID), fmt.Sprintf(`{"uuid":%q,"method":"GET"}`, d.UUID)
	for name, c := range map[string]struct {
		token, path, body string
		status            int
		calls             int
	}{
		"an operator":                {operator, "v1/reboot", post, 200, 1},
		"an observer who looks":      {observer, "v1/device", get, 200, 1},
		"an observer who acts":       {observer, "v1/reboot", post, 403, 0},
		"an observer, the fleet":     {observer, "v1/reboot", fmt.Sprintf(`{"appId":%d}`, id), 403, 0},
		"another tenant":             {stranger, "v1/reboot", post, 404, 0},
		"another tenant who looks":   {stranger, "v1/device", get, 404, 0},
		"another tenant, by id":      {stranger, "v1/reboot", fmt.Sprintf(`{"deviceId":%d}`, d.ID), 404, 0},
		"another tenant's fleet":     {stranger, "v1/reboot", fmt.Sprintf(`{"appId":%d}`, id), 404, 0},
		"nobody":                     {"", "v1/reboot", post, 401, 0},
		"a device that is away":      {s.token, "v1/reboot", fmt.Sprintf(`{"uuid":%q}`, away.UUID), 404, 0},
		"a device that is not there": {s.token, "v1/reboot", `{"deviceId":99999}`, 404, 0},
		"nothing said":               {s.token, "v1/reboot", `{}`, 400, 0},
		"a bad uuid":                 {s.token, "v1/reboot", `{"uuid":"x') or (1 eq 1"}`, 400, 0},
		"a bad id":                   {s.token, "v1/reboot", `{"deviceId":"x"}`, 400, 0},
		"a method of its own":        {s.token, "v1/reboot", fmt.Sprintf(`{"uuid":%q,"method":"CONNECT"}`, d.UUID), 400, 0},
		"a way up":                   {s.token, "v1/..%2f..%2fx", post, 400, 0},
		"no way":                     {s.token, "", post, 400, 0},
		"no JSON":                    {s.token, "v1/reboot", "[", 400, 0},
	} {
		before := len(asked())
		resp, answer := s.send(c.token, "POST", "/supervisor/"+c.path, c.body)
		if resp.StatusCode != c.status || len(asked())-before != c.calls {
			t.Errorf("%s: %d %s after %d calls, want %d after %d", name, resp.StatusCode, answer, len(asked())-before, c.status, c.calls)
		}
		if c.status == 404 && c.path != "" && string(answer) != "No online device(s) found" {
			t.Errorf("%s: %s", name, answer)
		}
	}
	// The device's own key is a supervisor's: it may see itself, and be told by itself.
	if resp, answer := s.send(key, "POST", "/supervisor/v1/reboot", fmt.Sprintf(`{"uuid":%q}`, away.UUID)); resp.StatusCode != 404 {
		t.Errorf("a device that calls another: %d %s", resp.StatusCode, answer)
	}
	s.exec(`UPDATE devices SET api_secret = NULL WHERE id = $1`, d.ID)
	if got := s.want(503, s.token, "POST", "/supervisor/v1/reboot", post); !strings.Contains(string(got), "has not said yet") {
		t.Errorf("a device without a key: %s", got)
	}
	s.api.Link = nil
	if got := s.want(404, s.token, "POST", "/supervisor/v1/reboot", post); string(got) != "No online device(s) found" {
		t.Errorf("without a link: %s", got)
	}
}

func TestAProvisioningKeyReachesNoSupervisor(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	d, _ := s.device(id, "")
	asked := s.supervised(d, 48484, ok)
	key := s.key(s.token, fmt.Sprintf("/api-key/application/%d/provisioning", id), `{}`)
	for _, method := range []string{"GET", "POST"} {
		s.want(403, key, "POST", "/supervisor/v1/apps/1", fmt.Sprintf(`{"uuid":%q,"method":%q}`, d.UUID, method))
	}
	if got := asked(); len(got) > 0 {
		t.Errorf("it was asked %q", got)
	}
}
