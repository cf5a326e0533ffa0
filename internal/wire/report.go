package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

// Report is the body of PATCH /device/v3/state: what each device says it is, keyed by device uuid. Only what
// changed is sent; a nil field says nothing about its subject.
type Report map[string]DeviceReport

// DeviceReport is what one device says of itself. Apps is authoritative when present: an image that is not in
// it is not on the device.
type DeviceReport struct {
	Name              *string              `json:"name,omitempty"`
	Status            *string              `json:"status,omitempty"`
	OSVersion         *string              `json:"os_version,omitempty"`
	OSVariant         *string              `json:"os_variant,omitempty"`
	SupervisorVersion *string              `json:"supervisor_version,omitempty"`
	IPAddress         *string              `json:"ip_address,omitempty"`
	MACAddress        *string              `json:"mac_address,omitempty"`
	APIPort           *int64               `json:"api_port,omitempty"`
	APISecret         *string              `json:"api_secret,omitempty"`
	ProvisioningState *string              `json:"provisioning_state,omitempty"`
	Provisioning      Nullable[int64]      `json:"provisioning_progress,omitzero"` // percent
	MemoryUsage       *int64               `json:"memory_usage,omitempty"`         // MB
	MemoryTotal       *int64               `json:"memory_total,omitempty"`         // MB
	StorageDevice     *string              `json:"storage_block_device,omitempty"`
	StorageUsage      *int64               `json:"storage_usage,omitempty"` // MB
	StorageTotal      *int64               `json:"storage_total,omitempty"` // MB
	CPUTemp           *int64               `json:"cpu_temp,omitempty"`      // °C
	CPUUsage          *int64               `json:"cpu_usage,omitempty"`     // percent of all cores
	CPUID             *string              `json:"cpu_id,omitempty"`
	Undervolted       *bool                `json:"is_undervolted,omitempty"`
	Apps              map[string]AppReport `json:"apps,omitempty"` // by fleet uuid
}

// Nullable is a field that can be cleared: null says that there is no value, and a field that was not sent says nothing.
type Nullable[T any] struct {
	Said  bool
	Value *T // nil: cleared, if Said
}

// UnmarshalJSON is called for what was sent, null or not.
func (n *Nullable[T]) UnmarshalJSON(b []byte) error {
	n.Said, n.Value = true, nil
	return json.Unmarshal(b, &n.Value)
}

// MarshalJSON writes the value or null; with omitzero a field that says nothing is left out.
func (n Nullable[T]) MarshalJSON() ([]byte, error) { return json.Marshal(n.Value) }

// AppReport is what a device says of one fleet's releases.
type AppReport struct {
	ReleaseUUID string                   `json:"release_uuid,omitempty"` // the commit it runs
	Releases    map[string]ReleaseReport `json:"releases,omitempty"`     // by commit
}

// ReleaseReport is how far a device is with one release.
type ReleaseReport struct {
	UpdateStatus UpdateStatus             `json:"update_status,omitempty"`
	Services     map[string]ServiceReport `json:"services,omitempty"`
}

// ServiceReport is the state of one service's container.
type ServiceReport struct {
	Image            string `json:"image"` // with or without digest
	Status           string `json:"status"`
	DownloadProgress *int64 `json:"download_progress,omitempty"` // percent; nil when nothing is being fetched
}

// UpdateStatus is how far a device is on its way to a release.
type UpdateStatus string

// The update states of the protocol. Of several releases the worst one stands for the device.
const (
	Rejected    UpdateStatus = "rejected"
	Aborted     UpdateStatus = "aborted"
	Downloading UpdateStatus = "downloading"
	Downloaded  UpdateStatus = "downloaded"
	Applying    UpdateStatus = "applying changes"
	Done        UpdateStatus = "done"
)

// Service states a device reports, as the supervisor words them.
const (
	StatusDownloading = "Downloading"
	StatusDownloaded  = "Downloaded"
	StatusInstalling  = "Installing"
	StatusInstalled   = "Installed"
	StatusStarting    = "Starting"
	StatusRunning     = "Running"
	StatusStopping    = "Stopping"
	StatusStopped     = "Stopped"
	StatusExited      = "exited"
	StatusRestarting  = "restarting"
	StatusDead        = "Dead"
)

// MaxReport bounds the body of a report, in bytes.
const MaxReport = 1 << 20

var precedence = []UpdateStatus{Rejected, Aborted, Downloading, Downloaded, Applying, Done}

// Known reports whether s is an update state of the protocol.
func (s UpdateStatus) Known() bool {
	for _, p := range precedence {
		if s == p {
			return true
		}
	}
	return false
}

// UpdateStatus is the state that stands for all releases of the report, "" if none has one.
func (r DeviceReport) UpdateStatus() UpdateStatus {
	best := len(precedence)
	for _, app := range r.Apps {
		for _, rel := range app.Releases {
			for i, p := range precedence {
				if rel.UpdateStatus == p && i < best {
					best = i
				}
			}
		}
	}
	if best == len(precedence) {
		return ""
	}
	return precedence[best]
}

// ParseReport decodes a report, drops what it does not know, cuts over-long texts and clamps numbers, so that
// what it returns fits the database. It never panics, whatever the bytes.
func ParseReport(body io.Reader) (Report, error) {
	b, err := bounded(body, MaxReport)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var r Report
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("decode report: %w", err)
	}
	if len(r) == 0 {
		return nil, fmt.Errorf("decode report: it names no device")
	}
	for uuid, d := range r {
		d.tidy()
		for _, app := range d.Apps {
			for commit, rel := range app.Releases {
				if rel.UpdateStatus != "" && !rel.UpdateStatus.Known() {
					return nil, fmt.Errorf("decode report: release %s: unknown update_status %q", commit, rel.UpdateStatus)
				}
				for name, s := range rel.Services {
					s.Status = cut(s.Status, 50)
					clamp(s.DownloadProgress, 0, 100)
					rel.Services[name] = s
				}
			}
		}
		r[uuid] = d
	}
	return r, nil
}

// tidy applies the bounds of the protocol (§2.3).
func (d *DeviceReport) tidy() {
	for _, f := range []struct {
		s   *string
		max int
	}{
		{d.Name, 255}, {d.Status, 50}, {d.OSVersion, 70}, {d.OSVariant, 4}, {d.SupervisorVersion, 20},
		{d.IPAddress, 2000}, {d.MACAddress, 900}, {d.APISecret, 64}, {d.ProvisioningState, 255},
		{d.StorageDevice, 255}, {d.CPUID, 255},
	} {
		if f.s != nil {
			*f.s = cut(*f.s, f.max)
		}
	}
	for _, n := range []*int64{d.MemoryUsage, d.MemoryTotal, d.StorageUsage, d.StorageTotal, d.CPUTemp, d.CPUUsage, d.APIPort} {
		clamp(n, -1<<31, 1<<31-1)
	}
	clamp(d.Provisioning.Value, 0, 100)
}

// bounded reads a body of at most that many bytes.
func bounded(body io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("it is over %d bytes", most)
	}
	return b, err
}

func clamp(n *int64, low, high int64) {
	if n != nil {
		*n = min(max(*n, low), high)
	}
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
