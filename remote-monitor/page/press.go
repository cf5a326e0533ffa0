package page

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// How long things about buttons last.
const (
	cookie       = "rm_session"
	sessionFor   = 7 * 24 * time.Hour
	answerWithin = 3 * time.Second
	pressTTL     = 10 * time.Second // a press that is late is worth nothing
	longestPress = 24 * time.Hour   // beyond this it is nonsense; the output's own limit is much less
)

// Wrong tokens within tryWindow: of one address, and of all together.
const (
	tryWindow  = time.Minute
	triesOfOne = 5
	triesOfAll = 60
)

const (
	noToken   = "cannot press buttons here: no token is configured; set page: token, or REMOTE_MONITOR_PAGE_TOKEN, and they appear"
	noCommand = "cannot press buttons here: this monitor takes no commands from its page"
)

// noButtons says why there are no buttons; empty: there are.
func (s *site) noButtons() string {
	switch {
	case s.Command == nil:
		return noCommand
	case s.Token == "":
		return noToken
	}
	return ""
}

// right compares a token in a time that tells nothing of it, not even its length.
func (s *site) right(token string) bool {
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.Token))
	return s.Token != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// session makes the value of a cookie: when it ends, and a proof that whoever knew the token made it. It outlives a
// restart, and is worth nothing once the token is another.
func (s *site) session(until time.Time) string {
	end := strconv.FormatInt(until.Unix(), 10)
	return end + "." + hex.EncodeToString(s.proof(end))
}

func (s *site) proof(end string) []byte {
	mac := hmac.New(sha256.New, []byte(s.Token))
	mac.Write([]byte("remote-monitor page session until " + end))
	return mac.Sum(nil)
}

// known tells whether a request comes with a session that holds.
func (s *site) known(r *http.Request) bool {
	c, err := r.Cookie(cookie)
	if err != nil || s.Token == "" {
		return false
	}
	end, proof, _ := strings.Cut(c.Value, ".")
	shown, err := hex.DecodeString(proof)
	if err != nil || !hmac.Equal(shown, s.proof(end)) {
		return false
	}
	until, err := strconv.ParseInt(end, 10, 64)
	return err == nil && time.Now().Unix() < until
}

// allowed lets a request through that may press buttons, and answers all others.
func (s *site) allowed(w http.ResponseWriter, r *http.Request) bool {
	if why := s.noButtons(); why != "" {
		fail(w, http.StatusForbidden, why)
		return false
	}
	if s.known(r) {
		return true
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="remote-monitor"`)
		fail(w, http.StatusUnauthorized, "cannot press this button: nobody is logged in; log in, or send the token as Authorization: Bearer")
		return false
	}
	return s.check(w, r, token)
}

// check compares a token that was shown. Whoever shows wrong ones too often is not even heard for a while: otherwise he
// would find it by trying.
func (s *site) check(w http.ResponseWriter, r *http.Request, token string) bool {
	who, now := address(r), time.Now()
	if wait := s.wrong.begin(who, now); wait > 0 {
		left := strconv.Itoa(int(math.Ceil(wait.Seconds())))
		w.Header().Set("Retry-After", left)
		fail(w, http.StatusTooManyRequests, "cannot try another token now: too many were wrong; wait "+left+" seconds")
		return false
	}
	if !s.right(token) {
		s.log.Warn("wrong token", "from", who)
		w.Header().Set("WWW-Authenticate", `Bearer realm="remote-monitor", error="invalid_token"`)
		fail(w, http.StatusUnauthorized, "cannot log in: this is not the token; look it up in the configuration of the page")
		return false
	}
	s.wrong.forgive(who, now)
	return true
}

// login exchanges the token for a cookie that scripts cannot read and other sites cannot send.
func (s *site) login(w http.ResponseWriter, r *http.Request) {
	if why := s.noButtons(); why != "" {
		fail(w, http.StatusForbidden, why)
		return
	}
	var in struct {
		Token string `json:"token"`
	}
	if !read(w, r, &in) || !s.check(w, r, in.Token) {
		return
	}
	until := time.Now().Add(sessionFor)
	s.log.Info("logged in", "from", address(r))
	http.SetCookie(w, bake(r, s.session(until), int(sessionFor.Seconds())))
	reply(w, http.StatusOK, map[string]any{"session": true, "until": moment(until)})
}

// logout takes the cookie back.
func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, bake(r, "", -1))
	reply(w, http.StatusOK, map[string]any{"session": false})
}

// bake makes the cookie. On a local network there is often no TLS, and a Secure cookie would never come back.
func bake(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	}
}

// output presses a button of an output: {"action": "pulse", "on" or "off", "seconds": for how long, "id": of the press}.
func (s *site) output(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.press(w, r, bus.Command{Output: id}, []string{"pulse", "on", "off"}, func(now monitor.Snapshot) bool {
		return slices.ContainsFunc(now.Outputs, func(o monitor.OutputView) bool { return o.ID == id })
	})
}

// group arms or disarms a group: {"action": "arm", "arm_force" (although a zone is not normal) or "disarm", "id": of the
// press}.
func (s *site) group(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.press(w, r, bus.Command{Group: id}, []string{"arm", monitor.ArmForce, "disarm"}, func(now monitor.Snapshot) bool {
		return slices.ContainsFunc(now.Groups, func(g zone.GroupStatus) bool { return g.Name == id })
	})
}

// press passes a command on and waits for the first answer.
func (s *site) press(w http.ResponseWriter, r *http.Request, c bus.Command, actions []string, exists func(monitor.Snapshot) bool) {
	if !s.allowed(w, r) {
		return
	}
	var in struct {
		Action  string  `json:"action"`
		Seconds float64 `json:"seconds"`
		ID      string  `json:"id"`
	}
	if !read(w, r, &in) {
		return
	}
	what := c.Output + c.Group
	switch {
	case !exists(s.Snapshot()):
		fail(w, http.StatusNotFound, fmt.Sprintf("cannot do this: there is no %q; see /api/status for what there is", what))
		return
	case !slices.Contains(actions, in.Action):
		fail(w, http.StatusBadRequest, fmt.Sprintf("cannot do %q: want one of %s", in.Action, strings.Join(actions, ", ")))
		return
	case !(in.Seconds >= 0) || in.Seconds > longestPress.Seconds():
		fail(w, http.StatusBadRequest, "cannot take this time: want seconds from 0 (the output's own) to 86400")
		return
	case c.Group != "" && in.Seconds != 0:
		fail(w, http.StatusBadRequest, "cannot take a time: arming has none")
		return
	case len(in.ID) > 64:
		fail(w, http.StatusBadRequest, "cannot take this id: want 64 characters or fewer")
		return
	}
	if c.ID = in.ID; c.ID == "" {
		c.ID = rand.Text()
	}
	c.Action, c.For = in.Action, time.Duration(in.Seconds*float64(time.Second))
	c.IssuedAt, c.TTL, c.Source, c.Who = time.Now(), pressTTL, "page", address(r)
	answers := make(chan bus.Ack, 1)
	c.Answer = func(a bus.Ack) {
		select {
		case answers <- a:
		default: // only the first is waited for; the rest shows in the output's state
		}
	}
	s.log.Info("button pressed", "what", what, "action", c.Action, "from", c.Who)
	s.Command(c)

	late := time.NewTimer(answerWithin)
	defer late.Stop()
	select {
	case a := <-answers:
		status := http.StatusOK
		if a.Status == "rejected" || a.Status == "failed" {
			status = http.StatusConflict
		}
		reply(w, status, struct {
			bus.Ack
			Seconds number `json:"on_seconds,omitempty"`
		}{a, number(a.Seconds)})
	case <-late.C:
		fail(w, http.StatusGatewayTimeout, "cannot say whether it was done: the monitor did not answer in time; look at its state before trying again")
	case <-r.Context().Done():
	}
}

// read takes a small body of JSON.
func read(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil || dec.More() {
		fail(w, http.StatusBadRequest, "cannot read the request: want one small object of JSON")
		return false
	}
	return true
}

// address is who asks. A network of its own, which each home and each attacker has, counts as one address.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		network, _ := ip.Prefix(64)
		return network.String()
	}
	return ip.String()
}

// tries remembers wrong tokens of the last minute, and those that are being looked at: many at once are no way around
// the limit. It is bounded by triesOfAll.
type tries struct {
	mu  sync.Mutex
	all []try // oldest first
}

type try struct {
	who string
	at  time.Time
}

// begin counts a try and gives 0, or says how long who has to wait before his next token is looked at.
func (t *tries) begin(who string, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = slices.DeleteFunc(t.all, func(x try) bool { return now.Sub(x.at) >= tryWindow })
	if len(t.all) >= triesOfAll {
		return t.all[0].at.Add(tryWindow).Sub(now)
	}
	var first time.Time
	n := 0
	for _, x := range t.all {
		if x.who == who {
			if n++; n == 1 {
				first = x.at
			}
		}
	}
	if n >= triesOfOne {
		return first.Add(tryWindow).Sub(now)
	}
	t.all = append(t.all, try{who, now})
	return 0
}

// forgive takes back a try that was right.
func (t *tries) forgive(who string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.all, try{who, at}); i >= 0 {
		t.all = slices.Delete(t.all, i, i+1)
	}
}
