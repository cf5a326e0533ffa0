package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// ask sends one request to a handler.
func ask(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestTheStatusIsJSONEvenOfWhatIsNotKnown(t *testing.T) {
	h := newHouse(time.Date(2026, 11, 22, 15, 0, 0, 0, time.FixedZone("", 3600)))
	w := ask(h.page().Handler(), "GET", "/api/status", "")
	var got struct {
		Time    string
		Device  string
		Supply  *float64
		Session bool
		Buttons string
		Zones   []struct {
			ID, State, Since string
			Percent, Volts   *float64
			Baseline         *float64
			Quarantined      *string
			Suppressed       []struct{ Stage, Reason, Time string }
		}
		Events []map[string]any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("status %d: %v in %s", w.Code, err, w.Body)
	}
	hall, porch, attic := got.Zones[0], got.Zones[2], got.Zones[4]
	if got.Time != "2026-11-22T14:00:00.000Z" || got.Device != "Gate house" || *got.Supply != 4.97 || got.Session || got.Buttons != "" {
		t.Errorf("the head is %+v", got)
	}
	if *hall.Percent != 51.3 || *hall.Volts != 2.55 || hall.Baseline != nil || hall.Quarantined != nil || hall.Since != "2026-11-22T13:59:46.000Z" {
		t.Errorf("the hall is %+v", hall)
	}
	if porch.Baseline == nil || *porch.Baseline != 48 || *porch.Quarantined != "2026-11-22T19:00:00.000Z" || porch.Suppressed[0].Stage != "quarantine" {
		t.Errorf("the porch is %+v", porch)
	}
	if attic.Percent != nil || attic.Volts != nil {
		t.Errorf("the attic cannot be read and is %+v", attic)
	}
	if e := got.Events[1]; e["value"] != 51.3 || e["volts"] != nil || e["time"] != "2026-11-22T13:59:46.000Z" || e["event"] != "alarm" {
		t.Errorf("the alarm is %+v", e)
	}
	if e := got.Events[5]; e["volts"] != 3.88 || e["value"] != nil {
		t.Errorf("the tamper is %+v", e)
	}
	if e := got.Events[4]; e["duration"] != 8210.5 || e["replayed"] != true {
		t.Errorf("the fault is %+v", e)
	}
}

func TestNumbersAreAlwaysJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.OneOf(rapid.Float64(), rapid.Just(math.NaN()), rapid.Just(math.Inf(1)), rapid.Just(math.Inf(-1)), rapid.Just(math.Copysign(0, -1)), rapid.Float64Range(-200, 200)).Draw(t, "f")
		b, err := json.Marshal(number(f))
		if err != nil {
			t.Fatal(err)
		}
		var got *float64
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v became %s: %v", f, b, err)
		}
		switch known := !math.IsNaN(f) && !math.IsInf(f, 0); {
		case known != (got != nil):
			t.Fatalf("%v became %s", f, b)
		case known && math.Abs(*got-f) > max(0.000501, math.Abs(f)*1e-12):
			t.Fatalf("%v became %s", f, b)
		case string(b) == "-0":
			t.Fatal("a negative zero")
		}
	})
}

func TestFramesGoOnWhereTheyWereLeft(t *testing.T) {
	h := newHouse(time.UnixMilli(1_700_000_000_000))
	handler := h.page().Handler()
	get := func(path string) (next uint64, frames [][]*float64) {
		t.Helper()
		var got struct {
			Next   uint64
			Frames [][]*float64
		}
		w := ask(handler, "GET", path, "")
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %v", path, w.Code, err)
		}
		return got.Next, got.Frames
	}
	next, all := get("/api/frames")
	if next != 1181 || len(all) != 1181 {
		t.Fatalf("the first answer has %d frames, next %d", len(all), next)
	}
	if last := all[1180]; *last[0] != 1_700_000_000_000 || len(last) != 7 || math.Abs(*last[1]-51) > 1 || last[5] != nil {
		t.Errorf("the last frame is %v", last)
	}
	h.goOn(3)
	if next, all = get("/api/frames?after=1181"); next != 1184 || len(all) != 3 {
		t.Errorf("after three more there are %d, next %d", len(all), next)
	}
	if next, all = get("/api/frames?after=1184"); next != 1184 || len(all) != 0 || all == nil {
		t.Errorf("with nothing new there are %v, next %d", all, next)
	}
	if w := ask(handler, "GET", "/api/frames?after=-1", ""); w.Code != 400 {
		t.Errorf("a position of -1 gives %d", w.Code)
	}
}

func TestHealthIsForMachines(t *testing.T) {
	h := newHouse(time.Now())
	handler := h.page().Handler()
	if w := ask(handler, "GET", "/healthz", ""); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("when all is well: %d %q", w.Code, w.Body)
	}
	h.change(func(s *monitor.Snapshot) { s.Healthy, s.Unhealthy = false, "Attic is not known" })
	if w := ask(handler, "GET", "/healthz", ""); w.Code != 503 || w.Body.String() != "Attic is not known\n" {
		t.Errorf("when it is not: %d %q", w.Code, w.Body)
	}
	h.change(func(s *monitor.Snapshot) { *s = monitor.Snapshot{} })
	if w := ask(handler, "GET", "/healthz", ""); w.Code != 503 || w.Body.String() != "not ready yet\n" {
		t.Errorf("before the first scan: %d %q", w.Code, w.Body)
	}
}

func TestEveryAnswerForbidsForeignScripts(t *testing.T) {
	p := newHouse(time.Now()).page()
	p.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "rm_x 1\n") })
	h := p.Handler()
	for _, path := range []string{"/", "/page.js", "/page.css", "/api/status", "/metrics", "/nothing"} {
		w := ask(h, "GET", path, "")
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "script-src 'self';") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s has the policy %q", path, csp)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s may be sniffed", path)
		}
	}
	if w := ask(h, "GET", "/metrics", ""); w.Body.String() != "rm_x 1\n" {
		t.Errorf("metrics are %q", w.Body)
	}
	if w := ask(newHouse(time.Now()).page().Handler(), "GET", "/metrics", ""); w.Code != 404 {
		t.Errorf("without metrics /metrics gives %d", w.Code)
	}
	if w := ask(h, "GET", "/", ""); strings.Contains(w.Body.String(), "onclick") || strings.Contains(w.Body.String(), "style=") || strings.Contains(w.Body.String(), "https://") {
		t.Error("the page has scripts or styles inside, or loads from elsewhere")
	}
}

func TestFilesAreKeptByTheBrowser(t *testing.T) {
	h := newHouse(time.Now()).page().Handler()
	first := ask(h, "GET", "/page.js", "")
	if first.Code != 200 || first.Body.Len() == 0 || first.Header().Get("ETag") == "" {
		t.Fatalf("%d, %d bytes, %v", first.Code, first.Body.Len(), first.Header())
	}
	if again := ask(h, "GET", "/page.js", "", "If-None-Match", first.Header().Get("ETag")); again.Code != 304 || again.Body.Len() != 0 {
		t.Errorf("the same file again: %d, %d bytes", again.Code, again.Body.Len())
	}
}

const gate = "/api/outputs/gate"

func TestButtonsWantTheToken(t *testing.T) {
	for _, x := range []struct {
		name, path, body string
		header           []string
		status           int
		says             string
		told             []string
	}{
		{"nothing shown", gate, `{"action":"pulse"}`, nil, 401, "nobody is logged in", nil},
		{"a wrong token", gate, `{"action":"pulse"}`, []string{"Authorization", "Bearer x"}, 401, "not the token", nil},
		{"the beginning of the token", gate, `{"action":"pulse"}`, []string{"Authorization", "Bearer " + token[:4]}, 401, "not the token", nil},
		{"no token at all", gate, `{"action":"pulse"}`, []string{"Authorization", "Bearer "}, 401, "not the token", nil},
		{"as basic", gate, `{"action":"pulse"}`, []string{"Authorization", "Basic " + token}, 401, "nobody is logged in", nil},
		{"a cookie somebody made", gate, `{"action":"pulse"}`, []string{"Cookie", cookie + "=99999999999.00"}, 401, "nobody is logged in", nil},
		{"the token", gate, `{"action":"pulse"}`, []string{"Authorization", "Bearer " + token}, 200, `"status":"accepted"`, []string{"gate pulse 0s"}},
		{"with a time", "/api/outputs/light", `{"action":"on","seconds":1.5}`, []string{"Authorization", "Bearer " + token}, 200, "accepted", []string{"light on 1.5s"}},
		{"a group", "/api/groups/house", `{"action":"disarm"}`, []string{"Authorization", "Bearer " + token}, 200, "accepted", []string{"house disarm 0s"}},
		{"a group by force", "/api/groups/garden", `{"action":"arm_force"}`, []string{"Authorization", "Bearer " + token}, 200, "accepted", []string{"garden arm_force 0s"}},
		{"another site", gate, `{"action":"pulse"}`, []string{"Authorization", "Bearer " + token, "Sec-Fetch-Site", "cross-site"}, 403, "", nil},
		{"another origin", gate, `{"action":"pulse"}`, []string{"Authorization", "Bearer " + token, "Origin", "https://evil.example"}, 403, "", nil},
		{"an output that is not there", "/api/outputs/door", `{"action":"pulse"}`, []string{"Authorization", "Bearer " + token}, 404, `no \"door\"`, nil},
		{"a group that is not there", "/api/groups/gate", `{"action":"arm"}`, []string{"Authorization", "Bearer " + token}, 404, `no \"gate\"`, nil},
		{"another action", gate, `{"action":"explode"}`, []string{"Authorization", "Bearer " + token}, 400, "want one of pulse, on, off", nil},
		{"arming an output", gate, `{"action":"arm"}`, []string{"Authorization", "Bearer " + token}, 400, "want one of", nil},
		{"a negative time", gate, `{"action":"pulse","seconds":-1}`, []string{"Authorization", "Bearer " + token}, 400, "cannot take this time", nil},
		{"31 years", gate, `{"action":"pulse","seconds":1e9}`, []string{"Authorization", "Bearer " + token}, 400, "cannot take this time", nil},
		{"beyond floats", gate, `{"action":"pulse","seconds":1e999}`, []string{"Authorization", "Bearer " + token}, 400, "", nil},
		{"a time for a group", "/api/groups/house", `{"action":"arm","seconds":3}`, []string{"Authorization", "Bearer " + token}, 400, "arming has none", nil},
		{"a field nobody knows", gate, `{"action":"pulse","minutes":1}`, []string{"Authorization", "Bearer " + token}, 400, "", nil},
		{"no JSON", gate, `pulse`, []string{"Authorization", "Bearer " + token}, 400, "", nil},
		{"two objects", gate, `{"action":"pulse"}{"action":"off"}`, []string{"Authorization", "Bearer " + token}, 400, "", nil},
		{"far too much", gate, `{"id":"` + strings.Repeat("x", 1<<20) + `"}`, []string{"Authorization", "Bearer " + token}, 400, "", nil},
		{"a long id", gate, `{"action":"pulse","id":"` + strings.Repeat("x", 65) + `"}`, []string{"Authorization", "Bearer " + token}, 400, "id", nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHouse(time.Now())
			w := ask(h.page().Handler(), "POST", x.path, x.body, x.header...)
			if w.Code != x.status || !strings.Contains(w.Body.String(), x.says) {
				t.Errorf("the answer is %d %s", w.Code, w.Body)
			}
			if got := h.pressed(); !slices.Equal(got, x.told) {
				t.Errorf("the monitor is told %q, want %q", got, x.told)
			}
		})
	}
}

func TestACommandSaysWhereItComesFrom(t *testing.T) {
	h := newHouse(time.Now())
	handler := h.page().Handler()
	ask(handler, "POST", gate, `{"action":"pulse","id":"press-1"}`, "Authorization", "Bearer "+token)
	ask(handler, "POST", gate, `{"action":"pulse"}`, "Authorization", "Bearer "+token)
	a, b := h.commands[0], h.commands[1]
	if a.ID != "press-1" || a.Source != "page" || a.Who != "192.0.2.1" || a.TTL != pressTTL || time.Since(a.IssuedAt) > time.Minute || a.Retained || a.Answer == nil {
		t.Errorf("the command is %+v", a)
	}
	if b.ID == "" || b.ID == a.ID {
		t.Errorf("two presses have the ids %q and %q", a.ID, b.ID)
	}
}

func TestARejectionIsNoSuccess(t *testing.T) {
	h := newHouse(time.Now())
	h.answer = func(c bus.Command) {
		c.Answer(bus.Ack{ID: c.ID, Output: "gate", Status: "rejected", Reason: "30 times in a minute", Seconds: math.NaN()})
	}
	w := ask(h.page().Handler(), "POST", gate, `{"action":"pulse"}`, "Authorization", "Bearer "+token)
	if w.Code != 409 || !strings.Contains(w.Body.String(), `"reason":"30 times in a minute"`) {
		t.Errorf("the answer is %d %s", w.Code, w.Body)
	}
}

func TestAMonitorThatDoesNotAnswerIsNotWaitedForForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(time.Now())
		h.answer = func(bus.Command) {}
		start := time.Now()
		w := ask(h.page().Handler(), "POST", gate, `{"action":"pulse"}`, "Authorization", "Bearer "+token)
		if w.Code != 504 || time.Since(start) != answerWithin {
			t.Errorf("after %s the answer is %d %s", time.Since(start), w.Code, w.Body)
		}
	})
}

func TestWithoutATokenTheRouteSaysWhy(t *testing.T) {
	h := newHouse(time.Now())
	p := h.page()
	p.Token = ""
	for _, header := range [][]string{nil, {"Authorization", "Bearer "}, {"Cookie", cookie + "=1.2"}} {
		for _, path := range []string{gate, "/api/groups/house", "/api/login"} {
			w := ask(p.Handler(), "POST", path, `{}`, header...)
			if w.Code != 403 || !strings.Contains(w.Body.String(), "no token is configured; set page: token") {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	}
	p = h.page()
	p.Command = nil
	if w := ask(p.Handler(), "POST", gate, `{}`, "Authorization", "Bearer "+token); w.Code != 403 || !strings.Contains(w.Body.String(), "takes no commands") {
		t.Errorf("without a monitor that takes commands: %d %s", w.Code, w.Body)
	}
	if len(h.commands) > 0 {
		t.Errorf("the monitor is told %q", h.pressed())
	}
}

func TestALoginLastsUntilItEndsOrTheTokenChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(time.Now())
		p := h.page()
		w := ask(p.Handler(), "POST", "/api/login", `{"token":"`+token+`"}`)
		if w.Code != 200 {
			t.Fatalf("the login gives %d %s", w.Code, w.Body)
		}
		c := w.Result().Cookies()[0]
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure || strings.Contains(c.Value, token) {
			t.Errorf("the cookie is %v", c)
		}
		press := func(p *Page, value string) int {
			return ask(p.Handler(), "POST", gate, `{"action":"pulse"}`, "Cookie", cookie+"="+value).Code
		}
		// Another handler knows it: it outlives a restart.
		if got := press(p, c.Value); got != 200 {
			t.Errorf("with the cookie a press gives %d", got)
		}
		end, proof, _ := strings.Cut(c.Value, ".")
		later := strconv.FormatInt(time.Now().Add(1000*time.Hour).Unix(), 10)
		for _, forged := range []string{later + "." + proof, end + "." + strings.Repeat("0", len(proof)), end, "." + proof, end + ".", ""} {
			if got := press(p, forged); got != 401 {
				t.Errorf("with %q a press gives %d", forged, got)
			}
		}
		other := h.page()
		other.Token = "another"
		if got := press(other, c.Value); got != 401 {
			t.Errorf("with another token a press gives %d", got)
		}
		time.Sleep(sessionFor - time.Second)
		if got := press(p, c.Value); got != 200 {
			t.Errorf("just before its end a press gives %d", got)
		}
		time.Sleep(time.Second)
		if got := press(p, c.Value); got != 401 {
			t.Errorf("after its end a press gives %d", got)
		}
		if out := ask(p.Handler(), "POST", "/api/logout", ``); out.Result().Cookies()[0].MaxAge != -1 {
			t.Errorf("the logout leaves %v", out.Result().Cookies())
		}
		if w := ask(p.Handler(), "POST", "/api/login", `{"token":"`+token+`"}`, "X-Forwarded-Proto", "https"); !w.Result().Cookies()[0].Secure {
			t.Error("behind TLS the cookie goes over plain connections too")
		}
	})
}

func TestGuessingTheTokenIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(time.Now())
		var log bytes.Buffer
		p := h.page()
		p.Log = slog.New(slog.NewTextHandler(&log, nil))
		handler := p.Handler()
		guess := func(from, token string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("POST", gate, strings.NewReader(`{"action":"pulse"}`))
			r.RemoteAddr = from
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w
		}
		// Right tokens do not count.
		for range 20 {
			if w := guess("192.0.2.9:1", token); w.Code != 200 {
				t.Fatalf("a right token gives %d", w.Code)
			}
		}
		for i := range triesOfOne {
			if w := guess("192.0.2.9:1", "secret-guess"); w.Code != 401 {
				t.Fatalf("wrong token %d gives %d", i, w.Code)
			}
		}
		if w := guess("192.0.2.9:2", token); w.Code != 429 || w.Header().Get("Retry-After") != "60" {
			t.Errorf("then even the right one gives %d, wait %s", w.Code, w.Header().Get("Retry-After"))
		}
		if w := guess("192.0.2.10:1", token); w.Code != 200 {
			t.Errorf("somebody else gets %d", w.Code)
		}
		time.Sleep(tryWindow)
		if w := guess("192.0.2.9:2", token); w.Code != 200 {
			t.Errorf("a minute later the right one gives %d", w.Code)
		}
		// One network of IPv6 is one, and all together have a limit too.
		refused := 0
		for i := range 20 {
			if guess("[2001:db8::"+strconv.Itoa(i+1)+"]:1", "x").Code == 429 {
				refused++
			}
		}
		if refused != 20-triesOfOne {
			t.Errorf("of 20 guesses from one network %d were refused", refused)
		}
		for i := range 200 {
			guess("198.51.100."+strconv.Itoa(i)+":1", "x")
		}
		if w := guess("203.0.113.1:1", token); w.Code != 429 {
			t.Errorf("after 200 guesses from everywhere another gets %d", w.Code)
		}
		if s := log.String(); !strings.Contains(s, `"wrong token" from=192.0.2.9`) || strings.Contains(s, "secret-guess") || strings.Contains(s, token) {
			t.Errorf("the log says %s", s)
		}
	})
}

func TestGuessesAtTheSameTimeAreCountedToo(t *testing.T) {
	var w tries
	at := time.Unix(0, 0)
	let := 0
	for range 64 {
		if w.begin("a", at) == 0 {
			let++ // and none of them is known to be wrong yet
		}
	}
	if let != triesOfOne {
		t.Errorf("%d of 64 at once were looked at", let)
	}
}

// stream reads events of a stream.
type stream struct {
	t    *testing.T
	body io.ReadCloser
	r    *bufio.Reader
}

type message struct{ event, id, data string }

func follow(t *testing.T, url string, header ...string) *stream {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the stream begins with %s", resp.Status)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &stream{t, resp.Body, bufio.NewReader(resp.Body)}
}

func (s *stream) next() message {
	s.t.Helper()
	var m message
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			s.t.Fatalf("the stream ended: %v", err)
		}
		switch key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); key {
		case "event":
			m.event = value
		case "id":
			m.id = value
		case "data":
			m.data = value
		case "":
			return m
		}
	}
}

// wait skips messages until one is as wanted.
func (s *stream) wait(event, contains string) message {
	s.t.Helper()
	for range 200 {
		if m := s.next(); m.event == event && strings.Contains(m.data, contains) {
			return m
		}
	}
	s.t.Fatalf("no %s with %q came", event, contains)
	return message{}
}

func TestAStreamBeginsWithEverythingAndGoesOnWithWhatChanges(t *testing.T) {
	h := newHouse(time.UnixMilli(1_700_000_000_000))
	url := open(t, h.page())
	s := follow(t, url+"/events")
	hello, status, frames := s.next(), s.next(), s.next()
	if hello.event != "hello" || !strings.Contains(hello.data, `"session":false`) || !strings.Contains(hello.data, `"buttons":""`) {
		t.Errorf("first comes %+v", hello)
	}
	var all struct {
		Seq    int
		Zones  []struct{ ID string }
		Levels []map[string]*float64
		Events []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(status.data), &all); err != nil || status.event != "status" {
		t.Fatalf("then %q: %v", status.event, err)
	}
	if all.Seq != 1 || len(all.Zones) != 6 || len(all.Levels) != 6 || len(all.Events) != 8 || *all.Levels[0]["percent"] != 51.3 || all.Levels[4]["percent"] != nil {
		t.Errorf("the status is %+v", all)
	}
	epoch := strconv.FormatInt(h.now.Started.UnixMilli(), 10)
	if frames.event != "frames" || frames.id != epoch+"-1181" || strings.Count(frames.data, "[") != 1182 {
		t.Errorf("then %q %q", frames.event, frames.id)
	}

	h.change(func(now *monitor.Snapshot) {
		now.Zones[1].State = zone.InAlarm
		now.Events = slices.Insert(now.Events, 0, bus.Event{ID: "9", Time: now.Time, Kind: "alarm", Zone: "door"})
	})
	h.goOn(2)
	if m := s.wait("frames", ""); m.id != epoch+"-1183" || strings.Count(m.data, "[") != 3 {
		t.Errorf("two more scans come as %+v", m)
	}
	var d struct {
		Seq       int
		Zones     []struct{ ID, State string }
		Events    []struct{ ID string }
		AllEvents bool
		Outputs   any
		Head      any
	}
	if err := json.Unmarshal([]byte(s.wait("delta", "zones").data), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Zones) != 1 || d.Zones[0].ID != "door" || d.Zones[0].State != "alarm" || len(d.Events) != 1 || d.Events[0].ID != "9" || d.AllEvents || d.Outputs != nil || d.Head != nil {
		t.Errorf("the change comes as %+v", d)
	}

	// A browser that comes again gets what it missed; one that knew an earlier program gets everything.
	again := follow(t, url+"/events?last=1-2", "Last-Event-ID", epoch+"-1180")
	if m := again.wait("frames", ""); strings.Count(m.data, "[") != 4 {
		t.Errorf("a browser that knows all but three scans gets %d", strings.Count(m.data, "[")-1)
	}
	if m := follow(t, url+"/events?last="+epoch+"-1182").wait("frames", ""); strings.Count(m.data, "[") != 2 {
		t.Errorf("one that remembers by itself gets %d", strings.Count(m.data, "[")-1)
	}
	if m := follow(t, url+"/events", "Last-Event-ID", "12345-1180").wait("frames", ""); strings.Count(m.data, "[") != 1184 {
		t.Errorf("one of an earlier program gets %d", strings.Count(m.data, "[")-1)
	}
}

func TestWhoeverAppliesTheChangesHasTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHouse(time.UnixMilli(1_700_000_000_000))
		at, n := time.Unix(0, 0), 100
		w := httptest.NewRecorder()
		v := &viewer{w: w, control: http.NewResponseController(deadlines{w})}
		last := draw(h.snapshot(), at, nil)
		v.picture(last, true)
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			h.change(func(s *monitor.Snapshot) {
				i := rapid.IntRange(0, 5).Draw(t, "zone")
				switch rapid.IntRange(0, 6).Draw(t, "change") {
				case 0:
					s.Zones[i].State = rapid.SampledFrom([]zone.State{zone.Normal, zone.InAlarm, zone.Tampered}).Draw(t, "state")
				case 1:
					s.Zones[i].Percent = rapid.Float64Range(0, 100).Draw(t, "percent")
				case 2:
					s.Outputs[i%4].On = !s.Outputs[i%4].On
				case 3:
					s.Groups[i%3].State = zone.GroupArmed
				case 4:
					for range rapid.IntRange(1, 300).Draw(t, "events") {
						n++
						s.Events = slices.Insert(s.Events, 0, bus.Event{ID: strconv.Itoa(n), Kind: "motion"})
					}
					s.Events = s.Events[:min(len(s.Events), 200)]
				case 5:
					s.Trouble = rapid.String().Draw(t, "trouble")
				case 6: // nothing
				}
			})
			last = draw(h.snapshot(), at, last)
			v.picture(last, rapid.Bool().Draw(t, "levels"))
		}
		// The last one may not have changed anything but levels.
		v.picture(last, true)
		if v.err != nil {
			t.Fatal(v.err)
		}

		type state struct {
			Head, Groups, Outputs, Brokers any
			Levels                         any
			Zones                          map[string]any
			Events                         []any
		}
		got := state{Zones: map[string]any{}}
		for i, m := range strings.Split(strings.TrimSpace(w.Body.String()), "\n\n") {
			_, data, _ := strings.Cut(m, "data: ")
			var in struct {
				Seq                            int
				Head, Groups, Outputs, Brokers any
				Levels                         any
				Zones                          []map[string]any
				Events                         []any
				AllEvents                      bool
			}
			if err := json.Unmarshal([]byte(data), &in); err != nil {
				t.Fatalf("%v in %s", err, data)
			}
			if in.Seq != i+1 {
				t.Fatalf("message %d has number %d", i+1, in.Seq)
			}
			for _, x := range []struct{ to, from *any }{{&got.Head, &in.Head}, {&got.Groups, &in.Groups}, {&got.Outputs, &in.Outputs}, {&got.Brokers, &in.Brokers}, {&got.Levels, &in.Levels}} {
				if *x.from != nil {
					*x.to = *x.from
				}
			}
			for _, z := range in.Zones {
				got.Zones[z["id"].(string)] = z
			}
			if in.AllEvents {
				got.Events = nil
			}
			got.Events = append(in.Events, got.Events...)
			got.Events = got.Events[:min(len(got.Events), 200)]
		}
		want := state{Zones: map[string]any{}}
		whole := func(raw json.RawMessage, to any) {
			if err := json.Unmarshal(raw, to); err != nil {
				t.Fatal(err)
			}
		}
		now := draw(h.snapshot(), at, nil)
		if !slices.EqualFunc(now.events, last.events, samePart) {
			t.Fatalf("%d events became %d", len(now.events), len(last.events))
		}
		whole(now.head, &want.Head)
		whole(now.groups, &want.Groups)
		whole(now.outputs, &want.Outputs)
		whole(now.brokers, &want.Brokers)
		whole(now.levels, &want.Levels)
		for _, z := range now.zones {
			var one any
			whole(z.raw, &one)
			want.Zones[z.id] = one
		}
		for _, e := range now.events {
			var one any
			whole(e.raw, &one)
			want.Events = append(want.Events, one)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("after all changes (-want +got):\n%s", d)
		}
	})
}

// deadlines lets a recorder be written to with a deadline.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetWriteDeadline(time.Time) error { return nil }

func TestOnlySoManyMayLookOn(t *testing.T) {
	h := newHouse(time.Now())
	p := h.page()
	p.Viewers = 2
	url := open(t, p)
	a, b := follow(t, url+"/events"), follow(t, url+"/events")
	a.next()
	b.next()
	resp, err := http.Get(url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "open 2 times already") {
		t.Errorf("a third one gets %s: %s", resp.Status, body)
	}
	a.body.Close()
	for {
		resp, err := http.Get(url + "/events")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == 200 {
			return // there is room again
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("no room came")
		}
	}
}

func TestTheServerEndsWithItsContextAlthoughSomebodyLooksOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- newHouse(time.Now()).page().Serve(ctx, l) }()
	s := follow(t, "http://"+l.Addr().String()+"/events")
	s.next()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it did not end")
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("somebody still answers")
	}
}

func TestTheHealthCheckHasASocketOfItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "health")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.page().Health(l)(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := client.Get("http://remote-monitor" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if status, body := get("/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("it says %d %q", status, body)
	}
	h.change(func(s *monitor.Snapshot) { s.Healthy, s.Unhealthy = false, "the board is away" })
	if status, body := get("/healthz"); status != 503 || body != "the board is away\n" {
		t.Errorf("it says %d %q", status, body)
	}
	if status, _ := get("/api/status"); status != 404 {
		t.Errorf("it also gives the status: %d", status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAListenerThatFailsEndsTheServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := newHouse(time.Now()).page().Serve(t.Context(), l); err == nil || !strings.HasPrefix(err.Error(), "serve the status page at 127.0.0.1:") {
		t.Errorf("it ended with %v", err)
	}
}

func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := bound(l, 1)
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() {
		c, err := b.Accept()
		if err == nil {
			c.Close()
		}
		second <- err
	}()
	select {
	case <-second:
		t.Fatal("the second came in while the first was there")
	case <-time.After(50 * time.Millisecond):
	}
	first.Close()
	first.Close() // gives back one place only
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	full := bound(l, 0)
	go full.Close()
	if _, err := full.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed one that was full gives %v", err)
	}
}

func FuzzAPressNeverDoesMoreThanItSays(f *testing.F) {
	for _, s := range []string{`{"action":"pulse"}`, `{"action":"on","seconds":3.5,"id":"a"}`, `{"seconds":1e308}`, `[]`, `null`, `{"action":"pulse","seconds":"3"}`, "\x00"} {
		f.Add(gate, s)
	}
	f.Add("/api/groups/house", `{"action":"arm"}`)
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != gate && path != "/api/groups/house" {
			path = gate
		}
		h := newHouse(time.Unix(1_700_000_000, 0))
		w := ask(h.page().Handler(), "POST", path, body, "Authorization", "Bearer "+token)
		if w.Code != 200 && w.Code != 400 {
			t.Fatalf("%q gives %d", body, w.Code)
		}
		if (w.Code == 200) != (len(h.commands) == 1) {
			t.Fatalf("%q gives %d and %q", body, w.Code, h.pressed())
		}
		for _, c := range h.commands {
			if c.For < 0 || c.For > longestPress || len(c.ID) > 64 || !slices.Contains([]string{"pulse", "on", "off", "arm", "arm_force", "disarm"}, c.Action) {
				t.Fatalf("%q became %+v", body, c)
			}
		}
	})
}

func FuzzPositions(f *testing.F) {
	for _, s := range []string{"", "7-12", "7-", "-12", "7--1", "8-12", "7-99999999999999999999", "7-1-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		v := &viewer{epoch: 7}
		if n := v.position(id); n != 0 && !strings.HasPrefix(id, "7-") {
			t.Fatalf("%q is position %d", id, n)
		}
	})
}

func BenchmarkAPictureOfSixteenZones(b *testing.B) {
	h := newHouse(time.Now())
	h.change(func(s *monitor.Snapshot) {
		for i := range 10 {
			s.Zones = append(s.Zones, s.Zones[i%6])
		}
	})
	s := h.snapshot()
	var p *picture
	b.ReportAllocs()
	for b.Loop() {
		p = draw(s, time.Time{}, p)
	}
}

func BenchmarkFiveFramesOfSixteenZones(b *testing.B) {
	f := monitor.Frame{Time: time.Now(), Values: make([]float64, 16)}
	for i := range f.Values {
		f.Values[i] = 29.123456 + float64(i)
	}
	buf := []byte{}
	b.ReportAllocs()
	for b.Loop() {
		buf = frames(buf[:0], []monitor.Frame{f, f, f, f, f})
	}
}
