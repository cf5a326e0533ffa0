package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Row is what every row has. Encoded as JSON, a row that [Rows] has read is exactly what the server wrote.
type Row struct {
	ID  int64 `json:"id"`
	raw json.RawMessage
}

func (r *Row) keep(raw json.RawMessage) { r.raw = raw }

// MarshalJSON is the row as the server wrote it; of a row that came inside another, it is the id.
func (r Row) MarshalJSON() ([]byte, error) {
	if r.raw == nil {
		return fmt.Appendf(nil, `{"id":%d}`, r.ID), nil
	}
	return r.raw, nil
}

// Ref is a reference to another row. The zero value refers to nothing.
type Ref[T any] struct {
	ID int64 // 0 when it refers to nothing, or was expanded without its id
	To *T    // the row, if it was expanded; else nil
}

// Value is the row referred to, or the zero value if it is nothing or was not expanded.
func (r Ref[T]) Value() (v T) {
	if r.To != nil {
		v = *r.To
	}
	return v
}

// UnmarshalJSON reads the forms a reference has on the wire: null, {"__id": n}, [] and [{…}].
func (r *Ref[T]) UnmarshalJSON(b []byte) error {
	*r = Ref[T]{}
	b = bytes.TrimSpace(b)
	if len(b) == 0 || b[0] != '[' {
		var deferred *struct {
			ID int64 `json:"__id"`
		}
		if err := json.Unmarshal(b, &deferred); err != nil || deferred == nil {
			return err
		}
		r.ID = deferred.ID
		return nil
	}
	var rows []T
	if err := json.Unmarshal(b, &rows); err != nil || len(rows) == 0 {
		return err
	}
	r.To = &rows[0]
	var id struct {
		ID int64 `json:"id"`
	}
	var ids []json.RawMessage
	if err := json.Unmarshal(b, &ids); err != nil {
		return err
	}
	if err := json.Unmarshal(ids[0], &id); err != nil {
		return err
	}
	r.ID = id.ID
	return nil
}

// Organization owns fleets (resource organization).
type Organization struct {
	Row
	Handle string `json:"handle"`
	Name   string `json:"name"`
}

// Architecture is a processor architecture (resource cpu_architecture).
type Architecture struct {
	Row
	Slug string `json:"slug"`
}

// DeviceType is a kind of board or computer (resource device_type).
type DeviceType struct {
	Row
	Slug    string            `json:"slug"`
	Name    string            `json:"name"`
	Arch    Ref[Architecture] `json:"is_of__cpu_architecture"`
	Aliases []struct {
		Alias string `json:"is_referenced_by__alias"`
	} `json:"device_type_alias"`
}

// Fleet is a set of devices that run the same releases (resource application).
type Fleet struct {
	Row
	CreatedAt    time.Time         `json:"created_at"`
	Name         string            `json:"app_name"`
	Slug         string            `json:"slug"` // organization/name, lower case
	UUID         string            `json:"uuid"`
	Organization Ref[Organization] `json:"organization"`
	Type         Ref[DeviceType]   `json:"is_for__device_type"`
	TrackLatest  bool              `json:"should_track_latest_release"`
	Target       Ref[Release]      `json:"should_be_running__release"`
	Devices      []Device          `json:"owns__device"` // id and is_online
}

// Device is one machine of a fleet (resource device). Numbers and times that nobody has reported are nil.
type Device struct {
	Row
	CreatedAt    time.Time       `json:"created_at"`
	UUID         string          `json:"uuid"`
	Name         string          `json:"device_name"`
	Note         string          `json:"note"`
	Fleet        Ref[Fleet]      `json:"belongs_to__application"`
	Type         Ref[DeviceType] `json:"is_of__device_type"`
	Online       bool            `json:"is_online"`
	LastSeen     *time.Time      `json:"last_connectivity_event"`
	Status       string          `json:"overall_status"`
	Progress     *int64          `json:"overall_progress"` // percent
	UpdateStatus string          `json:"update_status"`
	Running      Ref[Release]    `json:"is_running__release"`
	Pin          Ref[Release]    `json:"is_pinned_on__release"`
	Target       Ref[Release]    `json:"should_be_running__release"`
	OSVersion    string          `json:"os_version"`
	OSVariant    string          `json:"os_variant"`
	Supervisor   string          `json:"supervisor_version"`
	IPAddress    string          `json:"ip_address"`
	MACAddress   string          `json:"mac_address"`
	Public       string          `json:"public_address"`
	MemoryUsage  *int64          `json:"memory_usage"` // MB
	MemoryTotal  *int64          `json:"memory_total"`
	StorageUsage *int64          `json:"storage_usage"` // MB
	StorageTotal *int64          `json:"storage_total"`
	CPUUsage     *int64          `json:"cpu_usage"` // percent of all cores
	CPUTemp      *int64          `json:"cpu_temp"`  // °C
	Undervolted  bool            `json:"is_undervolted"`
	Installs     []Install       `json:"image_install"`
}

// Install is an image on a device (resource image_install).
type Install struct {
	Row
	Status   string       `json:"status"`
	Progress *int64       `json:"download_progress"` // percent
	Image    Ref[Image]   `json:"installs__image"`
	Release  Ref[Release] `json:"is_provided_by__release"`
}

// Image is one built image of a service (resource image).
type Image struct {
	Row
	Service  Ref[Service] `json:"is_a_build_of__service"`
	Location string       `json:"is_stored_at__image_location"`
	Digest   string       `json:"content_hash"`
	Size     Bytes        `json:"image_size"`
	Status   string       `json:"status"`
	Error    string       `json:"error_message"`
}

// Bytes is a size. On the wire it is a decimal string, because it may pass 2^53, or null.
type Bytes int64

// UnmarshalJSON reads a number, a string of digits, or null.
func (n *Bytes) UnmarshalJSON(b []byte) error {
	b = bytes.Trim(b, `"`)
	if string(b) == "null" || len(b) == 0 {
		*n = 0
		return nil
	}
	return json.Unmarshal(b, (*int64)(n))
}

// Service is a container by name, in all releases of a fleet (resource service).
type Service struct {
	Row
	Name  string     `json:"service_name"`
	Fleet Ref[Fleet] `json:"application"`
}

// Release is a numbered revision of a fleet (resource release).
type Release struct {
	Row
	CreatedAt   time.Time  `json:"created_at"`
	Commit      string     `json:"commit"` // 32 hex digits
	Status      string     `json:"status"` // running, success, failed, error, cancelled or interrupted
	Version     string     `json:"raw_version"`
	Semver      string     `json:"semver"`
	Final       bool       `json:"is_final"`
	Invalidated bool       `json:"is_invalidated"`
	Started     *time.Time `json:"start_timestamp"`
	Ended       *time.Time `json:"end_timestamp"`
	Note        string     `json:"note"`
	BuildLog    string     `json:"build_log"`
	Fleet       Ref[Fleet] `json:"belongs_to__application"`
	Images      []struct {
		Image Ref[Image] `json:"image"`
	} `json:"release_image"`
}

// SSHKey is a public key of the user (resource user__has__public_key).
type SSHKey struct {
	Row
	CreatedAt time.Time `json:"created_at"`
	Title     string    `json:"title"`
	PublicKey string    `json:"public_key"` // one line, as in authorized_keys
}
