package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

const (
	standardPoll   = 10      // minutes, where nobody says otherwise
	supervisorPort = 48484   // at which a supervisor listens where it does not say otherwise
	maxPoll        = 60 * 24 // minutes
	maxPassphrase  = 255     // bytes; also of an SSID
)

// downloadConfig answers the config.json that makes a device of balenaOS one of a fleet (protocol §1.1), with a new
// provisioning key of the fleet in it. Who may make such keys may have one.
func (a *API) downloadConfig(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	if actor.Kind == fleet.Nobody {
		return unauthorized()
	}
	p, err := parametersOf(r)
	if err != nil {
		return err
	}
	id, err := strconv.ParseInt(p.text("appId"), 10, 64)
	if err != nil {
		return fault.New(fault.Invalid, "appId must be the id of a fleet")
	}
	holder, err := a.Model.KeyHolder(r.Context(), actor, "application", id)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Denied) {
		return fault.New(fault.Unauthenticated, "there is no such fleet that you may make provisioning keys for")
	}
	if err != nil {
		return err
	}
	var f struct {
		Type []struct {
			Slug string
			Arch []struct{ Slug string } `json:"is_of__cpu_architecture"`
		} `json:"is_for__device_type"`
	}
	found, err := a.Model.Find(r.Context(), actor, fmt.Sprintf("application(%d)", id),
		"$select=id&$expand=is_for__device_type($select=slug;$expand=is_of__cpu_architecture($select=slug))", &f)
	if err != nil {
		return err
	}
	if !found || len(f.Type) != 1 || len(f.Type[0].Arch) != 1 {
		return unauthorized()
	}
	c, err := p.config(f.Type[0].Slug, f.Type[0].Arch[0].Slug)
	if err != nil {
		return err
	}
	name := p.text("provisioningKeyName")
	if name == "" {
		name = "config.json"
	}
	k := wanted{Name: name, Description: p.text("provisioningKeyDescription"), ExpiryDate: p.expiry()}
	spec, err := k.spec(actor, holder, fleet.RoleProvisioning)
	if err != nil {
		return err
	}
	key, err := a.Auth.NewKey(r.Context(), spec)
	if err != nil {
		return err
	}
	a.Config.fill(c)
	c["applicationId"], c["userId"], c["apiKey"] = id, actor.ID, key
	w.Header().Set("Content-Disposition", `attachment; filename="config.json"`)
	return show(w, c)
}

// fill adds how a device reaches this server.
func (c Config) fill(config map[string]any) {
	config["apiEndpoint"], config["registryEndpoint"], config["deltaEndpoint"] = c.APIURL, c.Registry, c.DeltaURL
	config["vpnEndpoint"], config["vpnPort"] = c.VPNHost, c.VPNPort
	config["listenPort"] = supervisorPort
	config["mixpanelToken"] = "" // nothing is sent to anybody else
	if c.LogsURL != "" {
		config["logsEndpoint"] = c.LogsURL
	}
	if len(c.RootCA) > 0 {
		config["balenaRootCA"] = base64.StdEncoding.EncodeToString(c.RootCA)
	}
}

// parameters are what a client says, whichever way: numbers, booleans and texts in JSON, or texts in a query or form.
type parameters map[string]any

func parametersOf(r *http.Request) (parameters, error) {
	p := parameters{}
	given := r.URL.Query()
	if r.Method == http.MethodPost {
		b, err := body(r)
		if err != nil {
			return nil, err
		}
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		switch {
		case kind == "application/x-www-form-urlencoded":
			form, err := url.ParseQuery(string(b))
			if err != nil {
				return nil, fault.Wrap(fault.Invalid, err, "the form cannot be read")
			}
			given = form
		case len(strings.TrimSpace(string(b))) > 0:
			if err := json.Unmarshal(b, &p); err != nil {
				return nil, fault.Wrap(fault.Invalid, err, "the body is not a JSON object")
			}
			given = nil
		}
	}
	for name, values := range given {
		p[name] = values[0]
	}
	return p, nil
}

// text is a parameter as text; "" if it is not there, or null.
func (p parameters) text(name string) string {
	switch v := p[name].(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

func (p parameters) expiry() json.RawMessage {
	text := p.text("provisioningKeyExpiryDate")
	if text == "" {
		return nil
	}
	quoted, _ := json.Marshal(text) // a string always encodes
	return quoted
}

// flag is a parameter that is true or false.
func (p parameters) flag(name string) (bool, error) {
	switch p.text(name) {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	}
	return false, fault.Newf(fault.Invalid, "%s must be true or false", name)
}

var (
	osVersion = regexp.MustCompile(`^v?\d{1,9}\.\d{1,9}\.\d{1,9}([-+.][0-9A-Za-z.+-]{1,100})?$`)
	hostname  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
)

// config is what the parameters say, for a fleet of that device type and architecture.
func (p parameters) config(ofType, arch string) (map[string]any, error) {
	if v := p.text("version"); !osVersion.MatchString(v) {
		return nil, fault.Newf(fault.Invalid, "version must be a version of balenaOS, and is %q", v).WithHint("for example 6.5.41+rev2")
	}
	slug := p.text("deviceType")
	if slug == "" {
		slug = ofType
	}
	t, ok := fleet.DeviceTypeOf(slug)
	if !ok {
		return nil, fault.Newf(fault.Invalid, "there is no device type %q", slug).WithHint("GET /device-types/v1 lists them")
	}
	if !fleet.MayRun(t.Arch, arch) {
		return nil, fault.Newf(fault.Invalid, "a %s (%s) cannot run the images of this fleet (%s)", t.Slug, t.Arch, arch)
	}
	c := map[string]any{"deviceType": t.Slug}
	poll := standardPoll
	if text := p.text("appUpdatePollInterval"); text != "" {
		var err error
		if poll, err = strconv.Atoi(text); err != nil || poll < 1 || poll > maxPoll {
			return nil, fault.Newf(fault.Invalid, "appUpdatePollInterval must be 1 to %d minutes", maxPoll)
		}
	}
	c["appUpdatePollInterval"] = poll * 60_000
	on := map[string]bool{}
	for _, name := range []string{"developmentMode", "secureboot", "secureBoot"} {
		var err error
		if on[name], err = p.flag(name); err != nil {
			return nil, err
		}
	}
	c["developmentMode"] = on["developmentMode"]
	if on["secureboot"] || on["secureBoot"] {
		c["installer"] = map[string]any{"secureboot": true}
	}
	if name := p.text("hostname"); name != "" {
		if !hostname.MatchString(name) {
			return nil, fault.Newf(fault.Invalid, "%q is not a host name", name)
		}
		c["hostname"] = name
	}
	return c, p.network(c)
}

// network writes how the device gets into its network.
func (p parameters) network(c map[string]any) error {
	ssid, key := p.text("wifiSsid"), p.text("wifiKey")
	for _, text := range []string{ssid, key} {
		if len(text) > maxPassphrase || strings.ContainsAny(text, "\r\n\x00") {
			return fault.New(fault.Invalid, "the name and the password of a wifi network are one line each")
		}
	}
	switch kind := p.text("network"); {
	case kind != "" && kind != "ethernet" && kind != "wifi":
		return fault.New(fault.Invalid, "network must be ethernet or wifi")
	case kind == "wifi" && ssid == "":
		return fault.New(fault.Invalid, "wifiSsid must be given with network wifi")
	case kind == "wifi", kind == "" && ssid != "":
		c["wifiSsid"] = ssid
		if key != "" {
			c["wifiKey"] = key
		}
	}
	if p.text("ip") == "" && p.text("gateway") == "" && p.text("netmask") == "" {
		return nil
	}
	var addresses []string
	for _, name := range []string{"ip", "netmask", "gateway"} {
		addr, err := netip.ParseAddr(p.text(name))
		if err != nil || !addr.Is4() {
			return fault.Newf(fault.Invalid, "%s must be an IPv4 address; ip, netmask and gateway go together", name)
		}
		addresses = append(addresses, addr.String())
	}
	if ones, _ := net.IPMask(net.ParseIP(addresses[1]).To4()).Size(); ones == 0 {
		return fault.Newf(fault.Invalid, "%s is not a netmask", addresses[1])
	}
	c["files"] = map[string]string{"network/network.config": connman(strings.Join(addresses, "/"), c)}
	return nil
}

// connman is a fixed address in the form of the network manager of old systems, which take it from config.json; newer
// ones take theirs from a file beside it.
func connman(ipv4 string, c map[string]any) string {
	ssid, wifi := c["wifiSsid"].(string)
	if !wifi {
		return "[service_home_ethernet]\nType = ethernet\nIPv4 = " + ipv4 + "\nNameservers = 8.8.8.8,8.8.4.4\n"
	}
	key, _ := c["wifiKey"].(string)
	return "[service_home_wifi]\nHidden = true\nType = wifi\nName = " + ssid + "\nPassphrase = " + key + "\nIPv4 = " + ipv4 + "\nNameservers = 8.8.8.8,8.8.4.4\n"
}
