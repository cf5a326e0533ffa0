package api

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// deviceTypes answers the catalog in the form that balena's tools configure images by (protocol §6.6).
func (a *API) deviceTypes(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	all := make([]manifest, len(fleet.DeviceTypes))
	for i, t := range fleet.DeviceTypes {
		all[i] = manifestOf(t)
	}
	return showLarge(w, r, all)
}

// deviceType answers one device type of the catalog, by slug or alias.
func (a *API) deviceType(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	t, err := named(r.PathValue("slug"))
	if err != nil {
		return err
	}
	return showLarge(w, r, manifestOf(t))
}

// downloadSize would answer the size of an image; there are none here (see download).
func (a *API) downloadSize(_ http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	t, err := named(r.PathValue("slug"))
	if err != nil {
		return err
	}
	return fault.Newf(fault.NotFound, "there is no image of version %s for %s on this server", r.PathValue("version"), t.Slug).
		WithHint("balena has its images at " + balenaImage(t.Slug, r.PathValue("version")))
}

// download would answer an image of balenaOS. Whoever asks is told where to get one.
func (a *API) download(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	q := r.URL.Query()
	t, err := named(q.Get("deviceType"))
	if err != nil {
		return err
	}
	version := q.Get("version")
	if release, ok := t.Release(); version == "" && ok {
		version = release.Version
	}
	say(w, http.StatusNotImplemented, fmt.Sprintf(
		"this server makes no images of balenaOS yet; balena's own for %s is at %s, and 'balena os configure' makes it a device of a fleet of yours",
		t.Slug, balenaImage(t.Slug, version)))
	return nil
}

// balenaImage is where balena gives out an image of balenaOS to anyone.
func balenaImage(slug, version string) string {
	return "https://api.balena-cloud.com/download?" + url.Values{"deviceType": {slug}, "version": {version}}.Encode()
}

func named(name string) (fleet.DeviceType, error) {
	t, ok := fleet.DeviceTypeOf(name)
	if !ok {
		return t, fault.Newf(fault.NotFound, "there is no device type %q", name).WithHint("GET /device-types/v1 lists them")
	}
	return t, nil
}

// manifest is a device type as balena's device-type.json has it.
type manifest struct {
	Slug               string         `json:"slug"`
	Version            int            `json:"version"` // of this form
	Aliases            []string       `json:"aliases"`
	Name               string         `json:"name"`
	Arch               string         `json:"arch"`
	State              string         `json:"state"`
	IsDefault          bool           `json:"isDefault,omitempty"`
	Options            []group        `json:"options"`
	Initialization     initialization `json:"initialization"`
	Configuration      map[string]any `json:"configuration"`
	Yocto              yocto          `json:"yocto"`
	ImageDownloadAlert []any          `json:"imageDownloadAlerts"`
	Instructions       []string       `json:"instructions"`
	GettingStarted     string         `json:"gettingStartedLink"`
	BuildID            string         `json:"buildId,omitempty"` // newest version of balenaOS
	Versions           []string       `json:"versions"`
	Latest             string         `json:"latest,omitempty"`
	LogoURL            *string        `json:"logoUrl"`
}

// group is questions that belong together.
type group struct {
	IsGroup       bool       `json:"isGroup"`
	IsCollapsible bool       `json:"isCollapsible,omitempty"`
	Collapsed     bool       `json:"collapsed,omitempty"`
	Name          string     `json:"name"`
	Message       string     `json:"message"`
	Options       []question `json:"options"`
}

// question is what a tool asks a person before it configures an image.
type question struct {
	Message string            `json:"message"`
	Name    string            `json:"name"`
	Type    string            `json:"type"`
	Choices []string          `json:"choices,omitempty"`
	Min     int               `json:"min,omitempty"`
	Default any               `json:"default,omitempty"`
	When    map[string]string `json:"when,omitempty"`
}

type initialization struct {
	Options    []question          `json:"options,omitempty"`
	Operations []map[string]string `json:"operations"`
}

type yocto struct {
	Machine        string `json:"machine"`
	Image          string `json:"image"`
	FSType         string `json:"fstype"`
	Version        string `json:"version,omitempty"`
	DeployArtifact string `json:"deployArtifact"`
	Compressed     bool   `json:"compressed"`
}

// questions are what every device type asks: how it gets into its network, and how often it looks for updates.
func questions() []group {
	return []group{
		{IsGroup: true, Name: "network", Message: "Network", Options: []question{
			{Message: "Network connection", Name: "network", Type: "list", Choices: []string{"ethernet", "wifi"}},
			{Message: "Name of the wifi network", Name: "wifiSsid", Type: "text", When: map[string]string{"network": "wifi"}},
			{Message: "Password of the wifi network", Name: "wifiKey", Type: "password", When: map[string]string{"network": "wifi"}},
		}},
		{IsGroup: true, IsCollapsible: true, Collapsed: true, Name: "advanced", Message: "Advanced", Options: []question{
			{Message: "Minutes between two looks for updates", Name: "appUpdatePollInterval", Type: "number", Min: 1, Default: standardPoll},
		}},
	}
}

func manifestOf(t fleet.DeviceType) manifest {
	m := manifest{
		Slug: t.Slug, Version: 1, Aliases: append([]string{t.Slug}, t.Aliases...), Name: t.Name, Arch: t.Arch, State: "released",
		Options: questions(), ImageDownloadAlert: []any{}, Versions: []string{},
		Initialization: initialization{
			Options:    []question{{Message: "Select a drive", Name: "drive", Type: "drive"}},
			Operations: []map[string]string{{"command": "burn"}},
		},
		Yocto:          yocto{Machine: t.Machine(), Image: "balena-image", FSType: "balenaos-img", Compressed: true},
		Instructions:   []string{"Write the image to the medium the device starts from, put it in, and connect power."},
		GettingStarted: "https://docs.balena.io/reference/hardware/devices/",
	}
	partition := any(map[string]int{"primary": 1})
	if t.OS != nil {
		if t.OS.New {
			m.State = "new"
		}
		if t.OS.Flasher {
			m.Yocto.Image = "balena-image-flasher"
			m.Instructions = []string{"Write the image to a card or stick, start the device from it, and wait until it has switched itself off."}
		}
		if t.OS.Partition > 0 {
			partition = t.OS.Partition
		}
	}
	m.Yocto.DeployArtifact = m.Yocto.Image + "-" + m.Yocto.Machine + ".balenaos-img"
	m.Configuration = map[string]any{"config": map[string]any{"partition": partition, "path": "/config.json"}}
	if release, ok := t.Release(); ok {
		m.BuildID, m.Latest, m.Versions = release.Version, release.Version, []string{release.Version}
	}
	return m
}
