package api

import (
	"net/http"

	"github.com/dunlin/dunlin/internal/fleet"
)

// config answers what the server says of itself.
func (a *API) config(w http.ResponseWriter, _ *http.Request, _ fleet.Actor) error {
	return show(w, a.Config)
}

// configVars answers which names of variables are the device's to obey (protocol §2.4). Clients decide by it where a
// variable goes; fleet.CheckVariable and fleet.CheckConfigVariable have the last word.
func (a *API) configVars(w http.ResponseWriter, _ *http.Request, _ fleet.Actor) error {
	return show(w, map[string]any{
		"reservedNames":      []string{"RESIN", "BALENA", "USER"},
		"reservedNamespaces": []string{"RESIN_", "BALENA_"},
		"invalidRegex":       `/^\d|\W/`,
		"whiteListedNames": both(
			"APP_RESTART_POLICY", "APP_RESTART_RETRIES", "DEPENDENT_DEVICES_HOOK_ADDRESS", "OVERRIDE_LOCK",
			"SUPERVISOR_CONNECTIVITY_CHECK", "SUPERVISOR_DELTA", "SUPERVISOR_DELTA_VERSION", "SUPERVISOR_HANDOVER_TIMEOUT",
			"SUPERVISOR_HARDWARE_METRICS", "SUPERVISOR_INSTANT_UPDATE_TRIGGER", "SUPERVISOR_LOCAL_MODE", "SUPERVISOR_LOG_CONTROL",
			"SUPERVISOR_PERSISTENT_LOGGING", "SUPERVISOR_POLL_INTERVAL", "SUPERVISOR_UPDATE_STRATEGY", "SUPERVISOR_VPN_CONTROL"),
		"whiteListedNamespaces": both("HOST_", "UI_"),
		"blackListedNames": both(
			"RESTART", "DEVICE_RESTART", "SUPERVISOR_OVERRIDE_LOCK", "SUPERVISOR_NATIVE_LOGGER", "HOST_LOG_TO_DISPLAY"),
		"configVarSchema": map[string]any{
			"$schema": "http://json-schema.org/draft-06/schema#",
			"type":    "object",
			"properties": map[string]any{
				"RESIN_SUPERVISOR_POLL_INTERVAL": property("integer", "Milliseconds between two looks at what the device should run; at least 10000", 60000),
				"RESIN_SUPERVISOR_UPDATE_STRATEGY": map[string]any{
					"type": "string", "description": "How a service is replaced, where its own label does not say",
					"enum": []string{"download-then-kill", "kill-then-download", "delete-then-download", "hand-over"}, "default": "download-then-kill",
				},
				"RESIN_SUPERVISOR_HANDOVER_TIMEOUT": property("integer", "Milliseconds a new service is given to take over from the old one", 60000),
				"RESIN_SUPERVISOR_LOG_CONTROL":      property("boolean", "Whether services' logs are sent to the server", true),
				"RESIN_SUPERVISOR_DELTA":            property("boolean", "Whether updates travel as differences", false),
				"RESIN_OVERRIDE_LOCK":               property("boolean", "Whether updates are applied in spite of update locks", false),
			},
		},
	})
}

func property(kind, description string, standard any) map[string]any {
	return map[string]any{"type": kind, "description": description, "default": standard}
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
