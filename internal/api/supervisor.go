package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// Bounds of what is passed on to devices.
const (
	supervisorTime   = 50 * time.Second // for all devices to answer
	supervisorAnswer = 1 << 20          // bytes of an answer
	supervisorSum    = 16 << 20         // bytes of the answers of many
	supervisorsAtOne = 256              // devices that are asked at the same time
)

// Link reaches devices.
type Link interface {
	// Transport is the way to a device's own host, whatever the address of a request; ok is false while the device is
	// not connected.
	Transport(uuid string) (t http.RoundTripper, ok bool)
}

// Supervisors knows how devices' own APIs are reached; store.DB is one.
type Supervisors interface {
	// Supervisor is the port and the key, as the device reported them; fault.Unavailable if it has not yet.
	Supervisor(ctx context.Context, device int64) (port int64, key string, err error)
}

// addressed is whom a call to supervisors is for, and what it says: a device, if one is named, before its fleet.
type addressed struct {
	UUID     string          `json:"uuid"`
	DeviceID number          `json:"deviceId"`
	AppID    number          `json:"appId"`
	Method   string          `json:"method"`
	Data     json.RawMessage `json:"data"`
}

// number is an id as clients write it: a number, or a string of digits. Absent and null are 0.
type number int64

func (n *number) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "null" {
		return nil
	}
	v, err := strconv.ParseInt(text, 10, 64)
	*n = number(v)
	return err
}

// reached is a device that is connected now.
type reached struct {
	id        int64
	uuid      string
	transport http.RoundTripper
}

// supervisor passes a call on to the supervisors of one device or of all of a fleet (protocol §6.7).
func (a *API) supervisor(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	var to addressed
	if err := decode(r, &to); err != nil {
		return err
	}
	return a.passOn(w, r, actor, to, r.PathValue("path"))
}

// restartFleet restarts the services of all devices of a fleet that are connected.
func (a *API) restartFleet(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return fault.New(fault.NotFound, "there is no such fleet")
	}
	return a.passOn(w, r, actor, addressed{AppID: number(id), Data: fmt.Appendf(nil, `{"appId":%d}`, id)}, "v1/restart")
}

func (a *API) passOn(w http.ResponseWriter, r *http.Request, actor fleet.Actor, to addressed, below string) error {
	if to.Method == "" {
		to.Method = http.MethodPost
	}
	to.Method = strings.ToUpper(to.Method)
	if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, to.Method) {
		return fault.Newf(fault.Invalid, "a supervisor has no method %q", to.Method)
	}
	if below == "" || path.Clean("/"+below) != "/"+below {
		return fault.New(fault.Invalid, "the path of a supervisor's API goes straight down")
	}
	devices, err := a.connected(r.Context(), actor, to)
	if err != nil {
		return err
	}
	if len(devices) == 0 {
		say(w, http.StatusNotFound, "No online device(s) found")
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), supervisorTime)
	defer cancel()
	limit := min(supervisorAnswer, supervisorSum/len(devices))
	answers := make([]relayed, len(devices))
	places := make(chan struct{}, supervisorsAtOne)
	var asking sync.WaitGroup
	for i, d := range devices {
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			answers[i] = a.ask(ctx, d, to, below, limit)
		})
	}
	asking.Wait()
	if len(answers) == 1 {
		return answers[0].write(w)
	}
	type one struct {
		StatusCode int             `json:"statusCode"`
		Body       json.RawMessage `json:"body"`
	}
	all := make([]one, len(answers))
	for i, answer := range answers {
		all[i] = one{answer.status, answer.json()}
	}
	body, err := json.Marshal(all)
	if err != nil {
		return err
	}
	send(w, r, http.StatusMultiStatus, body)
	return nil
}

// connected finds the devices that are meant and connected now. To look at one it is enough to see the device; to do
// something with it one must be allowed to operate it.
func (a *API) connected(ctx context.Context, actor fleet.Actor, to addressed) ([]reached, error) {
	if actor.Kind == fleet.Nobody {
		return nil, unauthorized()
	}
	if actor.Kind == fleet.FleetActor {
		// It is on every card, and finds a device by uuid to register it, not to listen to it.
		return nil, fault.New(fault.Denied, "a provisioning key reaches no supervisor")
	}
	found, err := a.meant(ctx, actor, to)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	ids := make([]int64, len(found))
	for i, d := range found {
		ids[i] = d.ID
	}
	if to.Method != http.MethodGet {
		may, err := a.Model.Changeable(ctx, actor, "device", ids, "is_pinned_on__release")
		if err != nil {
			return nil, err
		}
		if len(may) != len(ids) {
			return nil, fault.New(fault.Denied, "you may look at this device, and not operate it").WithHint("ask an owner of its organization for the role of operator")
		}
	}
	if a.Link == nil {
		return nil, nil
	}
	var devices []reached
	for _, d := range found {
		if t, ok := a.Link.Transport(d.UUID); ok {
			devices = append(devices, reached{d.ID, d.UUID, t})
		}
	}
	return devices, nil
}

type deviceRow struct {
	ID   int64
	UUID string
}

// meant finds the devices that a call is for, among those the actor may see.
func (a *API) meant(ctx context.Context, actor fleet.Actor, to addressed) (devices []deviceRow, err error) {
	var d deviceRow
	var found bool
	switch {
	case to.UUID != "":
		if fleet.CheckDeviceUUID(to.UUID) != nil {
			return nil, fault.New(fault.Invalid, "uuid is not the uuid of a device")
		}
		found, err = a.Model.Find(ctx, actor, "device(uuid='"+to.UUID+"')", "$select=id,uuid", &d)
	case to.DeviceID > 0:
		found, err = a.Model.Find(ctx, actor, fmt.Sprintf("device(%d)", to.DeviceID), "$select=id,uuid", &d)
	case to.AppID > 0:
		var f struct {
			Devices []deviceRow `json:"owns__device"`
		}
		_, err = a.Model.Find(ctx, actor, fmt.Sprintf("application(%d)", to.AppID), "$select=id&$expand=owns__device($select=id,uuid;$orderby=id asc)", &f)
		return f.Devices, err
	default:
		return nil, fault.New(fault.Invalid, "uuid, deviceId or appId must be given")
	}
	if found {
		devices = append(devices, d)
	}
	return devices, err
}

// relayed is a supervisor's answer as it is passed on.
type relayed struct {
	status int
	body   []byte
	isJSON bool
}

func failed(status int, why string) relayed {
	body, _ := json.Marshal(map[string]string{"error": why}) // a map of strings always encodes
	return relayed{status, body, true}
}

// write answers with it. Whatever a device sends, a browser takes it for nothing but data.
func (v relayed) write(w http.ResponseWriter) error {
	if !v.isJSON {
		say(w, v.status, string(v.body))
		return nil
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(v.status)
	_, _ = w.Write(v.body)
	return nil
}

// json is the body as JSON: a text becomes a string.
func (v relayed) json() json.RawMessage {
	if v.isJSON {
		return v.body
	}
	text, _ := json.Marshal(string(v.body)) // a string always encodes
	return text
}

// ask sends the call to one device and takes its answer, of at most limit bytes. The address in it is no address: the
// transport leads to that device and nowhere else.
func (a *API) ask(ctx context.Context, d reached, to addressed, below string, limit int) relayed {
	port, key, err := a.Supervisors.Supervisor(ctx, d.id)
	if err != nil {
		return failed(http.StatusServiceUnavailable, fault.Message(err))
	}
	if port < 1 || port > 1<<16-1 {
		port = supervisorPort
	}
	address := url.URL{
		Scheme: "http", Host: d.uuid + ".balena:" + strconv.FormatInt(port, 10), Path: "/" + below,
		RawQuery: url.Values{"apikey": {key}}.Encode(),
	}
	var body io.Reader
	if len(to.Data) > 0 && to.Method != http.MethodGet {
		body = bytes.NewReader(to.Data)
	}
	req, err := http.NewRequestWithContext(ctx, to.Method, address.String(), body)
	if err != nil {
		return failed(http.StatusInternalServerError, "internal error")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.transport.RoundTrip(req) // what a device redirects to is not followed
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return failed(http.StatusBadGateway, "the device did not answer in time")
		}
		a.log().Info("supervisor not reached", "device", d.uuid, "err", strip(err))
		return failed(http.StatusBadGateway, "the device could not be reached")
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil {
		return failed(http.StatusBadGateway, "the device broke off its answer")
	}
	if len(answer) > limit {
		return badAnswer()
	}
	return relay(resp.StatusCode, resp.Header.Get("Content-Type"), answer)
}

// strip takes the address, in which the device's key is, out of an error.
func strip(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// relay is what of a supervisor's answer is passed on: JSON, and text that says it is text. The rest is not for a
// browser that trusts this server.
func relay(status int, contentType string, answer []byte) relayed {
	if status < 200 || status > 599 {
		return badAnswer()
	}
	kind, _, err := mime.ParseMediaType(contentType)
	switch {
	case len(answer) == 0:
		return relayed{status: status}
	case err == nil && kind == "application/json":
		if !json.Valid(answer) {
			return badAnswer()
		}
		return relayed{status, answer, true}
	case (contentType == "" || err == nil && (kind == "text/plain" || kind == "text/html")) && plainText(answer):
		return relayed{status: status, body: answer}
	}
	return badAnswer()
}

func badAnswer() relayed {
	return failed(http.StatusInternalServerError, "Bad API response from supervisor")
}

// plainText reports whether a text has nothing in it that any browser could take for a page.
func plainText(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsAny(b, "<>&\x00")
}
