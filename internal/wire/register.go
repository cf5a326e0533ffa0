package wire

import "encoding/json"

// Registration is the body of POST /device/register. The device makes its own uuid and key.
type Registration struct {
	Application       json.Number `json:"application"` // the fleet's id, as a number or a numeric string
	UUID              string      `json:"uuid"`
	DeviceType        string      `json:"device_type"`
	APIKey            string      `json:"api_key,omitempty"`
	DeviceName        string      `json:"device_name,omitempty"`
	SupervisorVersion string      `json:"supervisor_version,omitempty"`
	OSVersion         string      `json:"os_version,omitempty"`
	OSVariant         string      `json:"os_variant,omitempty"`
	MACAddress        string      `json:"mac_address,omitempty"`
}

// Registered is the answer to a registration, status 201.
type Registered struct {
	ID     int64  `json:"id"`
	UUID   string `json:"uuid"`
	APIKey string `json:"api_key"`
}

// NotUniqueUUID is the exact text of the 409 that old supervisors look for.
const NotUniqueUUID = `"uuid" must be unique.`
