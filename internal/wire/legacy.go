package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// What supervisors before version 12 speak (protocol §2.1 and §2.3): ids where newer ones have uuids and names.

// LegacyTarget is the target of one device in that form: the fleet's app alone, since those know no other.
func LegacyTarget(t DeviceTarget) (json.RawMessage, error) {
	apps := map[string]any{}
	for _, app := range t.Apps {
		if app.IsHost || app.Class != "fleet" {
			continue
		}
		old := map[string]any{"name": app.Name, "services": map[string]any{}, "volumes": map[string]any{}, "networks": map[string]any{}}
		for commit, r := range app.Releases {
			services := map[string]any{}
			for name, s := range r.Services {
				service, err := legacyService(name, s)
				if err != nil {
					return nil, err
				}
				services[strconv.FormatInt(s.ID, 10)] = service
			}
			old["commit"], old["releaseId"], old["services"], old["volumes"], old["networks"] = commit, r.ID, services, r.Volumes, r.Networks
		}
		apps[strconv.FormatInt(app.ID, 10)] = old
	}
	b, err := json.Marshal(map[string]any{
		"local":     map[string]any{"name": t.Name, "config": t.Config, "apps": apps},
		"dependent": map[string]any{"apps": map[string]any{}, "devices": map[string]any{}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode legacy target: %w", err)
	}
	return b, nil
}

// legacyService is a service with the fields of its composition beside the others, which win.
func legacyService(name string, s Service) (map[string]any, error) {
	all := map[string]any{}
	if len(s.Composition) > 0 {
		var composed map[string]json.RawMessage
		if err := json.Unmarshal(s.Composition, &composed); err != nil {
			return nil, fmt.Errorf("composition of service %s: %w", name, err)
		}
		for k, v := range composed {
			all[k] = v
		}
	}
	all["imageId"], all["serviceName"], all["image"], all["running"] = s.ImageID, name, s.Image, s.Running == nil || *s.Running
	all["environment"], all["labels"] = s.Environment, s.Labels
	if len(s.Contract) > 0 {
		all["contract"] = s.Contract
	}
	return all, nil
}

// LegacyReport is what one device says of itself in that form.
type LegacyReport struct {
	DeviceReport
	Commit   *string         // it says it runs; nil says nothing
	Installs []LegacyInstall // what is on it
	AppsSaid bool            // Installs is authoritative
}

// LegacyInstall is an image on a device, by ids.
type LegacyInstall struct {
	Image, Release int64
	Status         string
	Progress       *int64 // percent
}

// ParseLegacyReport decodes a report in that form, within the same bounds as ParseReport.
func ParseLegacyReport(body io.Reader) (r LegacyReport, err error) {
	b, err := bounded(body, MaxReport)
	if err != nil {
		return r, fmt.Errorf("read report: %w", err)
	}
	var in struct {
		Local json.RawMessage `json:"local"`
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&in); err != nil {
		return r, fmt.Errorf("decode report: %w", err)
	}
	var local map[string]json.RawMessage
	if len(in.Local) > 0 {
		if err := json.Unmarshal(in.Local, &local); err != nil {
			return r, fmt.Errorf("decode report: %w", err)
		}
	}
	if err := r.apps(local); err != nil {
		return r, fmt.Errorf("decode report: %w", err)
	}
	delete(local, "apps")
	rest, err := json.Marshal(local)
	if err != nil {
		return r, fmt.Errorf("decode report: %w", err)
	}
	if err := json.Unmarshal(rest, &r.DeviceReport); err != nil {
		return r, fmt.Errorf("decode report: %w", err)
	}
	r.tidy()
	return r, nil
}

// apps reads what is said of apps: services by the id of their image.
func (r *LegacyReport) apps(local map[string]json.RawMessage) error {
	if commit := local["is_on__commit"]; len(commit) > 0 {
		if err := json.Unmarshal(commit, &r.Commit); err != nil {
			return fmt.Errorf("is_on__commit: %w", err)
		}
	}
	said := local["apps"]
	if len(said) == 0 || string(said) == "null" {
		return nil
	}
	type app struct {
		Services map[string]struct {
			Status   string `json:"status"`
			Release  int64  `json:"releaseId"`
			Progress *int64 `json:"download_progress"`
		} `json:"services"`
	}
	var byID map[string]app
	if json.Unmarshal(said, &byID) != nil {
		var list []app // as the first ones with several services sent it
		if err := json.Unmarshal(said, &list); err != nil {
			return fmt.Errorf("apps: %w", err)
		}
		byID = map[string]app{}
		for i, a := range list {
			byID[strconv.Itoa(i)] = a
		}
	}
	r.AppsSaid = true
	for _, a := range byID {
		for id, s := range a.Services {
			image, err := strconv.ParseInt(id, 10, 64)
			if err != nil {
				return fmt.Errorf("apps: %q is not the id of an image", id)
			}
			clamp(s.Progress, 0, 100)
			r.Installs = append(r.Installs, LegacyInstall{image, s.Release, cut(s.Status, 50), s.Progress})
		}
	}
	return nil
}

// ParseTags decodes the body of PATCH /device/v3/tags: tags by device uuid, nil for one that is to go.
func ParseTags(body io.Reader) (map[string]map[string]*string, error) {
	b, err := bounded(body, MaxReport)
	if err != nil {
		return nil, fmt.Errorf("read tags: %w", err)
	}
	var tags map[string]map[string]*string
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&tags); err != nil {
		return nil, fmt.Errorf("decode tags: %w", err)
	}
	if len(tags) == 0 {
		return nil, fmt.Errorf("decode tags: they name no device")
	}
	return tags, nil
}

// ParseLogLines decodes the body of the log call before there were streams: an array of at most ten lines. Lines that
// are not of the shape are left out, as in a stream.
func ParseLogLines(body io.Reader) ([]LogLine, error) {
	const lines = 10
	b, err := bounded(body, lines*MaxLogLine)
	if err != nil {
		return nil, fmt.Errorf("read log lines: %w", err)
	}
	var given []json.RawMessage
	if err := json.Unmarshal(b, &given); err != nil {
		return nil, fmt.Errorf("decode log lines: %w", err)
	}
	if len(given) > lines {
		return nil, fmt.Errorf("at most %d log lines come at a time", lines)
	}
	var all []LogLine
	for _, raw := range given {
		if l, ok, err := ParseLogLine(raw); err == nil && ok {
			all = append(all, l)
		}
	}
	return all, nil
}
