package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/dunlin/dunlin/internal/fault"
)

// Config is a device's config.json in balena's words (protocol §1.1). What it has besides these is kept as it is.
type Config struct {
	APIEndpoint     string      `json:"apiEndpoint,omitempty"` // URL
	ApplicationID   json.Number `json:"applicationId,omitempty"`
	ApplicationSlug string      `json:"applicationSlug,omitempty"` // ORG/FLEET; used when there is no id
	DeviceType      string      `json:"deviceType,omitempty"`
	APIKey          string      `json:"apiKey,omitempty"` // the provisioning key; gone once it was used
	UUID            string      `json:"uuid,omitempty"`
	DeviceAPIKey    string      `json:"deviceApiKey,omitempty"`
	DeviceID        int64       `json:"deviceId,omitempty"`
	RegisteredAt    json.Number `json:"registered_at,omitempty"`         // s since 1970
	RootCA          string      `json:"balenaRootCA,omitempty"`          // PEM in base64
	PollInterval    json.Number `json:"appUpdatePollInterval,omitempty"` // ms
	DeviceName      string      `json:"initialDeviceName,omitempty"`

	rest map[string]json.RawMessage
}

// Registered reports whether the server knows the device.
func (c Config) Registered() bool { return c.RegisteredAt != "" && c.RegisteredAt != "0" }

// ParseConfig decodes a config.json.
func ParseConfig(b []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(b, &c); err != nil {
		return Config{}, fault.Wrap(fault.Invalid, err, "config.json is not what a server makes").
			WithHint("download it again")
	}
	if err := json.Unmarshal(b, &c.rest); err != nil {
		return Config{}, fmt.Errorf("decode config: %w", err)
	}
	return c, nil
}

// LoadConfig reads the config.json in a data folder. One that is not there is empty.
func LoadConfig(data string) (Config, error) {
	b, err := os.ReadFile(filepath.Join(data, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	c, err := ParseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", data, err)
	}
	return c, nil
}

// Save writes c as the config.json of a data folder, readable by its owner alone. After a crash the file is the old
// one or the new one.
func (c Config) Save(data string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	all := maps.Clone(c.rest)
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	for _, key := range []string{
		"apiEndpoint", "applicationId", "applicationSlug", "deviceType", "apiKey", "uuid", "deviceApiKey", "deviceId",
		"registered_at", "balenaRootCA", "appUpdatePollInterval", "initialDeviceName",
	} {
		delete(all, key)
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	if b, err = json.MarshalIndent(all, "", "  "); err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	// The folder itself is private; the ones above it are the system's.
	if err := errors.Join(os.MkdirAll(filepath.Dir(data), 0o755), os.MkdirAll(data, 0o700)); err != nil {
		return fmt.Errorf("save config: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(data, "config.json"), append(b, '\n'), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("save config: %w", err)
	}
	return nil
}
