package api

import (
	"net/http"

	"github.com/dunlin/dunlin/internal/fleet"
)

// Config is what the server says of itself, to anyone and in the configuration of new devices.
type Config struct {
	Deployment   string
	APIURL       string // https://HOST[:PORT]
	GitServerURL string // ssh://HOST:PORT
	// DeviceURLs is the domain below which each device has a public address of its own.
	DeviceURLs string
	Registry   string // HOST[:PORT]
	DeltaURL   string
	LogsURL    string // "" if devices send their logs where they send everything else
	VPNHost    string
	VPNPort    int
	RootCA     []byte // PEM of the private authority that devices must trust; nil if any system trusts the server
}

// config answers what the server says of itself, in the words that balena's clients know. No client is told to send
// anything to anybody else.
func (a *API) config(w http.ResponseWriter, _ *http.Request, _ fleet.Actor) error {
	return show(w, map[string]any{
		"deployment": a.Config.Deployment, "apiUrl": a.Config.APIURL, "adminUrl": a.Config.APIURL, "gitServerUrl": a.Config.GitServerURL,
		"deviceUrlsBase": a.Config.DeviceURLs, "registryUrl": a.Config.Registry, "deltaUrl": a.Config.DeltaURL,
		"mixpanelToken": "", "signupCodeRequired": false, "supportedSocialProviders": []string{},
		"DEVICE_ONLINE_ICON": "", "DEVICE_OFFLINE_ICON": "",
	})
}
