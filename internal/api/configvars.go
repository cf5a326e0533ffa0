package api

import (
	"maps"
	"net/http"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// configVars answers which names of variables are the device's to obey (protocol §2.4), and what is known of each.
// Clients decide by it where a variable goes; fleet.CheckVariable and fleet.CheckConfigVariable have the last word.
func (a *API) configVars(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	known := maps.Clone(everyDevice)
	if name := r.URL.Query().Get("deviceType"); name != "" {
		t, ok := fleet.DeviceTypeOf(name)
		if !ok {
			return fault.Newf(fault.Invalid, "there is no device type %q", name).WithHint("GET /device-types/v1 lists them")
		}
		maps.Copy(known, ofType(t))
	}
	properties := map[string]any{}
	for name, p := range known {
		for _, prefix := range []string{"RESIN_", "BALENA_"} {
			properties[prefix+name] = p
		}
	}
	return showLarge(w, r, map[string]any{
		"reservedNames":         []string{"RESIN", "BALENA", "USER"},
		"reservedNamespaces":    []string{"RESIN_", "BALENA_"},
		"invalidRegex":          `/^\d|\W/`,
		"configVarInvalidRegex": `/^\d|\W/`,
		"whiteListedNames": both(
			"APP_RESTART_POLICY", "APP_RESTART_RETRIES", "DEPENDENT_DEVICES_HOOK_ADDRESS", "OVERRIDE_LOCK",
			"SUPERVISOR_CONNECTIVITY_CHECK", "SUPERVISOR_DELTA", "SUPERVISOR_DELTA_APPLY_TIMEOUT", "SUPERVISOR_DELTA_FALLBACK", "SUPERVISOR_DELTA_REQUEST_TIMEOUT",
			"SUPERVISOR_DELTA_RETRY_COUNT", "SUPERVISOR_DELTA_RETRY_INTERVAL", "SUPERVISOR_DELTA_VERSION", "SUPERVISOR_DEVELOPMENT_MODE",
			"SUPERVISOR_HANDOVER_TIMEOUT", "SUPERVISOR_HARDWARE_METRICS", "SUPERVISOR_INSTANT_UPDATE_TRIGGER", "SUPERVISOR_LOCAL_MODE",
			"SUPERVISOR_LOG_CONTROL", "SUPERVISOR_PERSISTENT_LOGGING", "SUPERVISOR_POLL_INTERVAL",
			"SUPERVISOR_UPDATE_STRATEGY", "SUPERVISOR_VPN_CONTROL"),
		"whiteListedNamespaces": both("HOST_", "UI_"),
		"blackListedNames":      both("RESTART", "DEVICE_RESTART", "SUPERVISOR_OVERRIDE_LOCK", "SUPERVISOR_NATIVE_LOGGER", "HOST_LOG_TO_DISPLAY"),
		"configVarSchema":       map[string]any{"$schema": "http://json-schema.org/draft-06/schema#", "type": "object", "properties": properties},
	})
}

// property is what is known of one variable, in the form of JSON Schema with two words of balena's.
type property struct {
	Type        string   `json:"type"`
	Description string   `json:"description"`
	Default     any      `json:"default,omitempty"`
	Enum        []string `json:"enum,omitempty"`
	Minimum     *int     `json:"minimum,omitempty"`
	WillReboot  bool     `json:"will_reboot,omitempty"` // the device restarts when it changes
	Warning     string   `json:"warning,omitempty"`
}

func flag(description string, standard bool) property {
	return property{Type: "boolean", Description: description, Default: standard}
}

func count(description string, standard, least int) property {
	return property{Type: "integer", Description: description, Default: standard, Minimum: &least}
}

// restarting is p for a variable whose change restarts the device.
func restarting(p property) property {
	p.WillReboot = true
	return p
}

// everyDevice are the variables of devices of every type, without prefix.
var everyDevice = map[string]property{
	"OVERRIDE_LOCK":                  flag("Whether updates are applied in spite of update locks", false),
	"SUPERVISOR_CONNECTIVITY_CHECK":  flag("Whether the device checks that it reaches the server, and shows it by its light", true),
	"SUPERVISOR_DELTA":               flag("Whether updates travel as differences; dunlin-agent has them unless this is 0", false),
	"SUPERVISOR_DELTA_APPLY_TIMEOUT": count("Milliseconds that applying a difference may take; 0 is no limit", 0, 0),
	"SUPERVISOR_DELTA_FALLBACK": {Type: "string", Description: "What follows a difference that failed: pull fetches the whole image, wait tries the difference again; dunlin-agent only", Default: "pull",
		Enum: []string{"pull", "wait"}},
	"SUPERVISOR_DELTA_REQUEST_TIMEOUT":  count("Milliseconds to wait for the answer to a request for a difference", 59000, 1),
	"SUPERVISOR_DELTA_RETRY_COUNT":      count("How often a difference is asked for before the whole image is", 30, 0),
	"SUPERVISOR_DELTA_RETRY_INTERVAL":   count("Milliseconds between two requests for a difference", 10000, 1),
	"SUPERVISOR_DELTA_VERSION":          {Type: "integer", Description: "Form of the differences", Default: 3},
	"SUPERVISOR_DEVELOPMENT_MODE":       restarting(property{Type: "boolean", Description: "Whether the device is in development mode", Default: false, Warning: "In development mode anyone in the device's network has it at his command"}),
	"SUPERVISOR_HANDOVER_TIMEOUT":       count("Milliseconds a new service is given to take over from the old one", 60000, 0),
	"SUPERVISOR_HARDWARE_METRICS":       flag("Whether the device reports the use of processor, memory and storage", true),
	"SUPERVISOR_INSTANT_UPDATE_TRIGGER": flag("Whether the device looks for an update as soon as it is told of one, and when it starts", true),
	"SUPERVISOR_LOCAL_MODE":             flag("Whether the device takes its services from its own network instead of the server", false),
	"SUPERVISOR_LOG_CONTROL":            flag("Whether services' logs are sent to the server", true),
	"SUPERVISOR_PERSISTENT_LOGGING":     restarting(flag("Whether the host's logs are kept over a restart", false)),
	"SUPERVISOR_POLL_INTERVAL":          count("Milliseconds between two looks at what the device should run", fleet.DefaultPoll, 10000),
	"SUPERVISOR_UPDATE_STRATEGY": {Type: "string", Description: "How a service is replaced, where its own label does not say", Default: "download-then-kill",
		Enum: []string{"download-then-kill", "kill-then-download", "delete-then-download", "hand-over"}},
	"SUPERVISOR_VPN_CONTROL": {Type: "boolean", Description: "Whether the device keeps its connection for tunnels and actions open", Default: true, Warning: "Without it only polling reaches the device"},
	"HOST_DISCOVERABILITY":   flag("Whether the device tells its network of itself by mDNS", true),
	"HOST_FIREWALL_MODE":     {Type: "string", Description: "Which ports of the host the network reaches", Default: "off", Enum: []string{"off", "on", "auto"}},
	"APP_RESTART_POLICY":     {Type: "string", Description: "When a container of an old system starts again", Default: "always", Enum: []string{"always", "on-failure", "no"}},
	"APP_RESTART_RETRIES":    count("How often a container of an old system starts again after a failure; 0 is without end", 0, 0),
}

// ofType are the variables that devices of a type have besides, without prefix.
func ofType(t fleet.DeviceType) map[string]property {
	switch {
	case t.Family == "raspberry-pi":
		return firmware
	case t.Slug == "jetson-tx2":
		known := maps.Clone(extlinux)
		known["HOST_ODMDATA_configuration"] = property{Type: "integer", Description: "ODMDATA: what the lanes of the processor are used for", WillReboot: true}
		return known
	case t.Family == "jetson":
		return extlinux
	}
	return nil
}

// firmware are the settings of a Raspberry Pi's config.txt that people change most; every other one has the same form.
var firmware = map[string]property{
	"HOST_CONFIG_avoid_warnings":     restarting(count("Whether the firmware's warning signs are hidden: 1 hides, 2 also permits turbo at low voltage", 0, 0)),
	"HOST_CONFIG_disable_splash":     restarting(flag("Whether the rainbow screen is left out", true)),
	"HOST_CONFIG_dtoverlay":          {Type: "string", Description: "Device tree overlays, quoted, with commas between", WillReboot: true},
	"HOST_CONFIG_dtparam":            {Type: "string", Description: "Device tree parameters, quoted, with commas between", Default: `"i2c_arm=on","spi=on","audio=on"`, WillReboot: true},
	"HOST_CONFIG_enable_uart":        restarting(flag("Whether the serial console is on", false)),
	"HOST_CONFIG_gpio":               {Type: "string", Description: "How pins are set before the system starts", WillReboot: true},
	"HOST_CONFIG_gpu_mem":            restarting(count("Megabytes of memory for graphics", 16, 16)),
	"HOST_CONFIG_hdmi_cvt":           {Type: "string", Description: "A screen mode of one's own", WillReboot: true},
	"HOST_CONFIG_hdmi_force_hotplug": restarting(flag("Whether a screen is taken to be there", false)),
	"HOST_CONFIG_hdmi_group":         restarting(count("List of screen modes: 1 CEA, 2 DMT", 0, 0)),
	"HOST_CONFIG_hdmi_mode":          restarting(count("Screen mode of the list", 0, 0)),
	"HOST_CONFIG_start_x":            restarting(flag("Whether the firmware for cameras is loaded", false)),
	"HOST_SPLASH_IMAGE":              {Type: "string", Description: "PNG image shown while the device starts, base64", WillReboot: true},
}

var extlinux = map[string]property{
	"HOST_EXTLINUX_fdt":      {Type: "string", Description: "Device tree to start with", WillReboot: true},
	"HOST_EXTLINUX_isolcpus": {Type: "string", Description: "Processors that the kernel leaves alone", WillReboot: true},
}

// both are the names in both spellings.
func both(names ...string) []string {
	var all []string
	for _, prefix := range []string{"RESIN_", "BALENA_"} {
		for _, n := range names {
			all = append(all, prefix+n)
		}
	}
	return all
}
