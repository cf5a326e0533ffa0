// Package wire owns what travels between the server and a device: the target, the report, the registration and
// the log line, as balena's device protocol v3 spells them. It owns no transport and opens no connection.
package wire

import (
	"encoding/json"
	"fmt"
)

// Target is the answer to GET /device/v3/:uuid/state: what each device should be, keyed by device uuid
// (one device in practice).
type Target map[string]DeviceTarget

// DeviceTarget is what one device should be.
type DeviceTarget struct {
	Name   string            `json:"name"`
	Config map[string]string `json:"config"`
	Apps   map[string]App    `json:"apps"` // by fleet uuid
}

// App is a fleet as a device sees it.
type App struct {
	ID       int64              `json:"id"`
	Name     string             `json:"name"`
	Slug     string             `json:"slug,omitempty"`
	IsHost   bool               `json:"is_host"`
	Class    string             `json:"class"`
	Releases map[string]Release `json:"releases"` // by commit; at most one
}

// Release is the release a device should run.
type Release struct {
	ID       int64                      `json:"id"`
	Services map[string]Service         `json:"services"`
	Volumes  map[string]json.RawMessage `json:"volumes"`
	Networks map[string]json.RawMessage `json:"networks"`
}

// Service is one container of a release.
type Service struct {
	ID          int64             `json:"id"`
	ImageID     int64             `json:"image_id"`
	Image       string            `json:"image"` // HOST/v2/<32 hex>@sha256:<64 hex>
	Environment map[string]string `json:"environment"`
	Labels      map[string]string `json:"labels"`
	Contract    json.RawMessage   `json:"contract,omitempty"`
	Composition json.RawMessage   `json:"composition,omitempty"` // the compose service without build, in short forms
	Running     *bool             `json:"running,omitempty"`     // nil means true
}

// ConfigPollInterval is the config variable that says how long a device waits between two looks at its target, in
// milliseconds.
const ConfigPollInterval = "RESIN_SUPERVISOR_POLL_INTERVAL"

// HeaderPrefer with the value "wait=N" (RFC 7240) on a target request asks the server to hold an unchanged answer
// for up to N seconds, so that a change arrives at once. A server that does not know it answers 304 at once.
const HeaderPrefer = "Prefer"

// ParseTarget decodes the answer for one device. A missing device is an error: the old target stays. So is one without
// any app, for a device always has its fleet's, and an app that does not say its releases: "run nothing" is an app with
// the releases {}, never something left out.
func ParseTarget(body []byte, uuid string) (DeviceTarget, error) {
	var t Target
	if err := json.Unmarshal(body, &t); err != nil {
		return DeviceTarget{}, fmt.Errorf("decode target: %w", err)
	}
	d, ok := t[uuid]
	if !ok {
		return DeviceTarget{}, fmt.Errorf("decode target: it has no device %s", uuid)
	}
	if len(d.Apps) == 0 {
		return DeviceTarget{}, fmt.Errorf("decode target: device %s has no app", uuid)
	}
	for app, a := range d.Apps {
		if a.Releases == nil {
			return DeviceTarget{}, fmt.Errorf("decode target: app %s does not say its releases", app)
		}
		if len(a.Releases) > 1 {
			return DeviceTarget{}, fmt.Errorf("decode target: app %s has %d releases, want at most one", app, len(a.Releases))
		}
	}
	return d, nil
}
