package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/wire"
)

// provision makes the device known to the server (protocol §1.4). Each thing learnt is saved before the next is asked,
// so that an agent stopped anywhere goes on where it was and never registers twice.
func (d *device) provision(ctx context.Context) error {
	if d.config.UUID == "" || d.config.DeviceAPIKey == "" {
		if err := d.renew(); err != nil {
			return err
		}
	}
	if d.config.DeviceType == "" {
		d.config.DeviceType = d.host.deviceType()
	}
	if d.config.Registered() && d.config.APIKey == "" {
		return nil
	}
	if d.config.APIKey == "" {
		return fault.New(fault.Invalid, "this device is not registered and has no provisioning key").
			WithHint("make one with `dunlin provisioning-key create` and run dunlin-agent with --key KEY")
	}
	again := backoff{first: 2 * time.Second, most: 5 * time.Minute}
	for {
		err := d.register(ctx)
		if err == nil {
			d.Log.Info("registered", "device", d.config.UUID, "id", d.config.DeviceID)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := again.next()
		var r *refusal
		if errors.As(err, &r) {
			wait = max(wait, r.retryAfter())
		}
		d.Log.Warn("not registered yet", "err", err, "retry", wait.Round(time.Second))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// renew makes a new identity.
func (d *device) renew() error {
	d.config.UUID, d.config.DeviceAPIKey = token(), token()
	d.config.DeviceID, d.config.RegisteredAt = 0, ""
	return d.config.Save(d.Data)
}

// token is 128 random bits in hexadecimal.
func token() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// register is one try.
func (d *device) register(ctx context.Context) error {
	if d.config.Registered() {
		return d.exchange(ctx)
	}
	if err := d.findFleet(ctx); err != nil {
		return err
	}
	a, err := d.server.call(ctx, request{method: "POST", path: "/device/register", key: d.config.APIKey, body: wire.Registration{
		Application: d.config.ApplicationID, UUID: d.config.UUID, DeviceType: d.config.DeviceType,
		APIKey: d.config.DeviceAPIKey, DeviceName: d.config.DeviceName, SupervisorVersion: d.Version,
		OSVersion: d.host.osVersion(), OSVariant: d.host.osVariant(), MACAddress: d.host.macs(),
	}})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if a.status == http.StatusConflict {
		// Perhaps it is this device's own, from a try whose answer was lost.
		return d.exchange(ctx)
	}
	if err := a.refused(http.StatusCreated, http.StatusOK); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	var got wire.Registered
	if err := json.Unmarshal(a.body, &got); err != nil {
		return fmt.Errorf("register: decode answer: %w", err)
	}
	if got.APIKey != "" {
		d.config.DeviceAPIKey = got.APIKey
	}
	return d.provisioned(got.ID)
}

func (d *device) provisioned(id int64) error {
	d.config.DeviceID, d.config.APIKey = id, ""
	d.config.RegisteredAt = json.Number(strconv.FormatInt(time.Now().Unix(), 10))
	return d.config.Save(d.Data)
}

// exchange gives the device's own key to a device that the server already has. If the server refuses, a device that was
// never registered gets a new identity for the next try; one that was keeps its own, and somebody has to look.
func (d *device) exchange(ctx context.Context) error {
	id, err := d.deviceID(ctx, d.config.DeviceAPIKey)
	if err == nil && id != 0 {
		return d.provisioned(id)
	}
	if r := (*refusal)(nil); err != nil && !(errors.As(err, &r) && r.definite()) {
		return fmt.Errorf("exchange keys: %w", err)
	}
	id, err = d.deviceID(ctx, d.config.APIKey)
	if err == nil && id != 0 {
		path := "/api-key/device/" + strconv.FormatInt(id, 10) + "/device-key"
		var a answer
		a, err = d.server.call(ctx, request{method: "POST", path: path, key: d.config.APIKey, body: map[string]string{"apiKey": d.config.DeviceAPIKey}})
		if err == nil {
			if err = a.refused(http.StatusOK, http.StatusCreated); err == nil {
				return d.provisioned(id)
			}
		}
	}
	if r := (*refusal)(nil); err != nil && !(errors.As(err, &r) && r.definite()) {
		return fmt.Errorf("exchange keys: %w", err)
	}
	if d.config.Registered() {
		return fmt.Errorf("exchange keys: neither the device's key nor the provisioning key may see device %s", d.config.UUID)
	}
	taken := d.config.UUID
	if err := d.renew(); err != nil {
		return err
	}
	return fmt.Errorf("device %s belongs to somebody else; the next try has a new identity", taken)
}

// deviceID asks for the device's id with a key; 0 means that the key sees no such device.
func (d *device) deviceID(ctx context.Context, key string) (int64, error) {
	rows, err := d.rows(ctx, key, "/v7/device?$select=id&$filter="+url.PathEscape("uuid eq '"+d.config.UUID+"'"))
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return rows[0].ID, nil
}

// findFleet learns the id of the fleet from its name, or, if it was not named, from what the key may see.
func (d *device) findFleet(ctx context.Context) error {
	if d.config.ApplicationID != "" && d.config.ApplicationID != "0" {
		return nil
	}
	path := "/v7/application?$select=id,slug"
	if d.config.ApplicationSlug != "" {
		slug := strings.ReplaceAll(d.config.ApplicationSlug, "'", "''")
		path += "&$filter=" + url.PathEscape("slug eq '"+slug+"'")
	}
	rows, err := d.rows(ctx, d.config.APIKey, path)
	if err != nil {
		return fmt.Errorf("look up fleet: %w", err)
	}
	if len(rows) != 1 {
		return fmt.Errorf("look up fleet: the provisioning key sees %d fleets named %q; give the fleet's id with --fleet", len(rows), d.config.ApplicationSlug)
	}
	d.config.ApplicationID = json.Number(strconv.FormatInt(rows[0].ID, 10))
	return d.config.Save(d.Data)
}

type row struct {
	ID int64 `json:"id"`
}

func (d *device) rows(ctx context.Context, key, path string) ([]row, error) {
	a, err := d.server.call(ctx, request{method: "GET", path: path, key: key})
	if err != nil {
		return nil, err
	}
	if err := a.refused(http.StatusOK); err != nil {
		return nil, err
	}
	var got struct {
		D []row `json:"d"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return got.D, nil
}
