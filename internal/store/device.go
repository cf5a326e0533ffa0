package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// NewDevice is what a registration brings.
type NewDevice struct {
	Fleet      int64
	UUID       string
	DeviceType string // slug or alias
	KeyHash    string // hash of the key the device made
	// Name is the wanted name; Names makes friendly ones while the wanted one is "" or taken.
	Name              string
	Names             func(taken int) string
	OSVersion         string
	OSVariant         string
	SupervisorVersion string
	MACAddress        string
	Address           string // it registered from
	// By registers it; the zero Actor is the server itself.
	By fleet.Actor
}

// RegisterDevice adds a device with its key, in one transaction. Its name is unique in the fleet. A uuid that is
// there already is a fault.Conflict that names "uuid". Nothing has been heard of the device by this: a person may have
// registered it, who makes its card next.
func (db *DB) RegisterDevice(ctx context.Context, n NewDevice) (fleet.Device, error) {
	now := db.now()
	d := fleet.Device{UUID: n.UUID, Fleet: n.Fleet, CreatedAt: Time(now)}
	err := db.Write(ctx, func(tx *sql.Tx) error {
		var typeID, organization int64
		var fleetArch string
		err := tx.QueryRowContext(ctx, `
			SELECT t.id, t.slug, a.slug FROM device_type_aliases al
			JOIN device_types t ON t.id = al.device_type JOIN cpu_architectures a ON a.id = t.cpu_architecture
			WHERE al.alias = $1`, n.DeviceType).Scan(&typeID, &d.DeviceType, &d.Arch)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.Newf(fault.Invalid, "there is no device type %q", n.DeviceType).
				WithHint("dunlin device-type list shows them")
		} else if err != nil {
			return err
		}
		err = tx.QueryRowContext(ctx, `
			SELECT a.slug, f.organization FROM fleets f
			JOIN device_types t ON t.id = f.device_type JOIN cpu_architectures a ON a.id = t.cpu_architecture
			WHERE f.id = $1`, n.Fleet).Scan(&fleetArch, &organization)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "there is no such fleet")
		} else if err != nil {
			return err
		}
		if !fleet.MayRun(d.Arch, fleetArch) {
			return fault.Newf(fault.Invalid, "a %s (%s) cannot run the images of this fleet (%s)", d.DeviceType, d.Arch, fleetArch).
				WithHint("register it in a fleet of its own architecture")
		}
		if d.Name, err = freeName(ctx, tx, n); err != nil {
			return err
		}
		if d.Actor, err = insertActor(ctx, tx, "device"); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, `
			INSERT INTO devices (created_at, modified_at, actor, fleet, device_type, uuid, name,
				os_version, os_variant, supervisor_version, mac_address, public_address)
			VALUES ($1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id`,
			now, d.Actor, n.Fleet, typeID, n.UUID, d.Name, nullText(n.OSVersion), nullText(n.OSVariant),
			nullText(n.SupervisorVersion), nullText(n.MACAddress), nullText(n.Address)).Scan(&d.ID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO api_keys (created_at, modified_at, actor, key_hash, role) VALUES ($1, $1, $2, $3, $4)`,
			now, d.Actor, n.KeyHash, fleet.RoleDevice); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO service_installs (created_at, modified_at, device, service)
			SELECT $1, $1, $2, id FROM services WHERE fleet = $3`, now, d.ID, n.Fleet)
		if err != nil {
			return err
		}
		return AddAudit(ctx, tx, Audit{Time: Time(now), Actor: n.By, Server: n.By.Kind == fleet.Nobody, Verb: "create", Resource: "device",
			Row: d.ID, Organization: organization, Fleet: n.Fleet, Details: map[string]any{"uuid": n.UUID, "device_name": d.Name}})
	})
	if err != nil {
		return fleet.Device{}, fmt.Errorf("register device %s: %w", n.UUID, err)
	}
	return d, nil
}

// freeName is the wanted name, or the first friendly one that no device of the fleet has.
func freeName(ctx context.Context, tx *sql.Tx, n NewDevice) (string, error) {
	name := n.Name
	for taken := 0; ; taken++ {
		if name == "" {
			name = n.Names(taken)
		}
		var there bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM devices WHERE fleet = $1 AND name = $2)`,
			n.Fleet, name).Scan(&there); err != nil {
			return "", err
		}
		if !there {
			return name, nil
		}
		name = ""
	}
}

const deviceColumns = `
	SELECT d.id, d.actor, d.uuid, d.name, d.fleet, t.slug, a.slug, COALESCE(d.pinned_release, 0),
		COALESCE(d.running_release, 0), COALESCE(d.last_seen, 0), COALESCE(d.status, ''), COALESCE(d.api_port, 0),
		d.created_at, COALESCE(d.update_status, ''), NOT d.is_active
	FROM devices d JOIN device_types t ON t.id = d.device_type JOIN cpu_architectures a ON a.id = t.cpu_architecture `

func scanDevice(row interface{ Scan(...any) error }) (d fleet.Device, err error) {
	var seen, created int64
	err = row.Scan(&d.ID, &d.Actor, &d.UUID, &d.Name, &d.Fleet, &d.DeviceType, &d.Arch, &d.Pin, &d.Running, &seen,
		&d.Status, &d.APIPort, &created, &d.UpdateState, &d.Deactivated)
	d.LastSeen, d.CreatedAt = Time(seen), Time(created)
	return d, err
}

// Device finds a device by its uuid.
func (db *DB) Device(ctx context.Context, uuid string) (fleet.Device, error) {
	d, err := scanDevice(db.reader.QueryRowContext(ctx, deviceColumns+`WHERE d.uuid = $1`, uuid))
	if errors.Is(err, sql.ErrNoRows) {
		return d, fault.New(fault.NotFound, "there is no such device")
	}
	if err != nil {
		return d, fmt.Errorf("load device %s: %w", uuid, err)
	}
	return d, nil
}

// DeviceUUIDs are the uuids of some devices.
func (db *DB) DeviceUUIDs(ctx context.Context, ids []int64) ([]string, error) {
	var all []string
	for _, id := range ids {
		var uuid string
		err := db.reader.QueryRowContext(ctx, `SELECT uuid FROM devices WHERE id = $1`, id).Scan(&uuid)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("load device %d: %w", id, err)
		}
		all = append(all, uuid)
	}
	return all, nil
}

// Seen records when devices were last heard of and how often they mean to call, for all of them at once.
func (db *DB) Seen(ctx context.Context, seen map[int64]Sighting) error {
	if len(seen) == 0 {
		return nil
	}
	return db.Write(ctx, func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(ctx, `
			UPDATE devices SET last_seen = $1, poll_interval_ms = $2
			WHERE id = $3 AND COALESCE(last_seen, 0) < $1`)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for id, s := range seen {
			if _, err := stmt.ExecContext(ctx, s.Micros, s.Poll, id); err != nil {
				return fmt.Errorf("device %d: %w", id, err)
			}
		}
		return nil
	})
}

// Sighting is one moment a device was heard of.
type Sighting struct {
	Micros int64 // since 1970
	Poll   int64 // milliseconds until it means to call again
}

// Sighted is a device that was heard of.
type Sighted struct {
	ID, Fleet int64
	UUID      string
	Sighting
}

// SeenSince are the devices that were heard of since a moment.
func (db *DB) SeenSince(ctx context.Context, since time.Time) ([]Sighted, error) {
	rows, err := db.reader.QueryContext(ctx, `SELECT id, fleet, uuid, last_seen, poll_interval_ms FROM devices WHERE last_seen >= $1`, since.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (s Sighted, err error) {
		err = rows.Scan(&s.ID, &s.Fleet, &s.UUID, &s.Micros, &s.Poll)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return all, nil
}

// Observation is what one report changes. A nil Columns entry is written as NULL.
type Observation struct {
	Columns      map[string]any // of devices, by column name; see observable
	Apps         bool           // Installs and Running are authoritative
	UpdateStatus string
	Running      string // commit it says it runs; "" leaves what is known
	Installs     []Install
}

// Install is one image on a device, as reported.
type Install struct {
	Location string // HOST/v2/<32 hex>, without digest
	Commit   string // of the release that brought it
	Status   string
	Progress *int64
}

// observable are the columns a report may write.
var observable = map[string]bool{
	"status": true, "os_version": true, "os_variant": true, "supervisor_version": true, "ip_address": true,
	"mac_address": true, "api_port": true, "api_secret": true, "provisioning_state": true, "provisioning_progress": true,
	"memory_usage": true, "memory_total": true, "storage_block_device": true, "storage_usage": true, "storage_total": true,
	"cpu_usage": true, "cpu_temp": true, "cpu_id": true, "is_undervolted": true,
}

// Observe writes what a device reported, in one transaction. A release or image that is not the device's fleet's
// is fault.Unauthenticated, as the protocol has it, and nothing is written.
func (db *DB) Observe(ctx context.Context, device fleet.Device, o Observation) error {
	now := db.now()
	return db.Write(ctx, func(tx *sql.Tx) error {
		sets, args := []string{"modified_at = $1", "last_seen = $1"}, []any{now, device.ID}
		for column, value := range o.Columns {
			if !observable[column] {
				return fmt.Errorf("observe device %d: column %q is not observable", device.ID, column)
			}
			args = append(args, value)
			sets = append(sets, fmt.Sprintf("%s = $%d", column, len(args)))
		}
		if o.UpdateStatus != "" {
			args = append(args, o.UpdateStatus)
			sets = append(sets, fmt.Sprintf("update_status = $%d", len(args)), "last_update_status_event = $1")
		}
		if o.Running != "" {
			release, err := knownRelease(ctx, tx, device.Fleet, o.Running)
			if err != nil {
				return err
			}
			args = append(args, release)
			sets = append(sets, fmt.Sprintf("running_release = $%d", len(args)))
		}
		if _, err := tx.ExecContext(ctx, `UPDATE devices SET `+strings.Join(sets, ", ")+` WHERE id = $2`, args...); err != nil {
			return fmt.Errorf("observe device %d: %w", device.ID, err)
		}
		if !o.Apps {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE image_installs SET status = 'deleted', download_progress = NULL, modified_at = $1
			WHERE device = $2 AND status <> 'deleted'`, now, device.ID); err != nil {
			return fmt.Errorf("observe device %d: %w", device.ID, err)
		}
		for _, i := range o.Installs {
			release, err := knownRelease(ctx, tx, device.Fleet, i.Commit)
			if err != nil {
				return err
			}
			done, err := tx.ExecContext(ctx, `
				INSERT INTO image_installs (created_at, modified_at, install_date, device, image, release, status, download_progress)
				SELECT $1, $1, $1, $2, im.id, $3, $4, $5 FROM images im
				JOIN services s ON s.id = im.service WHERE im.location = $6 AND s.fleet = $7
				ON CONFLICT (device, image) DO UPDATE SET modified_at = excluded.modified_at, release = excluded.release,
					status = excluded.status, download_progress = excluded.download_progress`,
				now, device.ID, release, i.Status, i.Progress, i.Location, device.Fleet)
			if err != nil {
				return fmt.Errorf("observe device %d: %w", device.ID, err)
			}
			if n, err := done.RowsAffected(); err != nil || n == 0 {
				return errors.Join(err, notYours("image", i.Location))
			}
		}
		return nil
	})
}

// knownRelease is the newest release of that commit in the fleet, whatever became of it.
func knownRelease(ctx context.Context, tx *sql.Tx, fleetID int64, commit string) (int64, error) {
	var id int64
	err := tx.QueryRowContext(ctx, `
		SELECT id FROM releases WHERE fleet = $1 AND commit_id = $2 ORDER BY (status = 'success') DESC, id DESC LIMIT 1`,
		fleetID, commit).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, notYours("release", commit)
	}
	return id, err
}

func notYours(what, name string) error {
	return fault.Newf(fault.Unauthenticated, "%s %s is not one of this device's fleet", what, name)
}

func nullText(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
