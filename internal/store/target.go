package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fleet"
)

// Parts loads everything a device's target is made of, in one snapshot.
func (db *DB) Parts(ctx context.Context, device fleet.Device) (fleet.Parts, error) {
	p := fleet.Parts{Device: device}
	tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return p, fmt.Errorf("load target of %s: %w", device.UUID, err)
	}
	defer tx.Rollback() // it only reads
	if err := parts(ctx, tx, &p); err != nil {
		return p, fmt.Errorf("load target of %s: %w", device.UUID, err)
	}
	return p, nil
}

func parts(ctx context.Context, tx *sql.Tx, p *fleet.Parts) error {
	var err error
	if p.Fleet, err = scanFleet(tx.QueryRowContext(ctx, fleetColumns+`WHERE f.id = $1`, p.Device.Fleet)); err != nil {
		return err
	}
	for _, v := range []struct {
		into  *map[string]string
		query string
		id    int64
	}{
		{&p.FleetVariables, `SELECT name, value FROM fleet_variables WHERE fleet = $1`, p.Fleet.ID},
		{&p.DeviceVariables, `SELECT name, value FROM device_variables WHERE device = $1`, p.Device.ID},
		{&p.FleetConfig, `SELECT name, value FROM fleet_config_variables WHERE fleet = $1`, p.Fleet.ID},
		{&p.DeviceConfig, `SELECT name, value FROM device_config_variables WHERE device = $1`, p.Device.ID},
	} {
		if *v.into, err = pairs(tx.QueryContext(ctx, v.query, v.id)); err != nil {
			return err
		}
	}
	if p.Systems, err = systems(ctx, tx, p.Device.ID, p.Fleet.ID); err != nil {
		return err
	}
	follows := fleet.Follows(p.Device.Pin, p.Fleet.Target)
	if follows == 0 {
		return nil
	}
	r, err := scanRelease(tx.QueryRowContext(ctx, releaseColumns+`WHERE id = $1 AND status = 'success'`, follows))
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	p.Release = &r
	if p.Services, err = releaseParts(ctx, tx, r, p.Fleet.ID); err != nil {
		return err
	}
	for i := range p.Services {
		s := &p.Services[i]
		if s.DeviceVariables, err = pairs(tx.QueryContext(ctx, `
			SELECT v.name, v.value FROM device_service_variables v JOIN service_installs si ON si.id = v.service_install
			WHERE si.service = $1 AND si.device = $2`, s.Image.Service, p.Device.ID)); err != nil {
			return err
		}
	}
	return nil
}

// systems are the host system and the supervisor that a device should have, as far as it is said.
func systems(ctx context.Context, tx *sql.Tx, device, devicesOf int64) (all []fleet.System, err error) {
	var operated, managed sql.NullInt64
	err = tx.QueryRowContext(ctx, `SELECT operated_by, managed_by FROM devices WHERE id = $1`, device).Scan(&operated, &managed)
	if errors.Is(err, sql.ErrNoRows) { // a device that stands for its fleet
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, id := range []sql.NullInt64{operated, managed} {
		if !id.Valid {
			continue
		}
		r, err := scanRelease(tx.QueryRowContext(ctx, releaseColumns+`WHERE id = $1 AND status = 'success'`, id.Int64))
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s := fleet.System{Release: r}
		if s.Fleet, err = scanFleet(tx.QueryRowContext(ctx, fleetColumns+`WHERE f.id = $1`, r.Fleet)); err != nil {
			return nil, err
		}
		if err := tx.QueryRowContext(ctx, `
			SELECT f.is_host, f.class, COALESCE((
				SELECT MIN(im.location || '@' || im.content_hash) FROM fleets b JOIN release_images ri ON ri.release = b.target_release
				JOIN images im ON im.id = ri.image WHERE b.id = f.updated_by), '')
			FROM fleets f WHERE f.id = $1`, r.Fleet).Scan(&s.IsHost, &s.Class, &s.Updater); err != nil {
			return nil, err
		}
		if s.Variables, err = pairs(tx.QueryContext(ctx, `SELECT name, value FROM fleet_variables WHERE fleet = $1`, r.Fleet)); err != nil {
			return nil, err
		}
		if s.Services, err = releaseParts(ctx, tx, r, devicesOf); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// releaseParts are the services of a release that devices of a fleet run, with their labels and variables. One that is
// kept for profiles runs only where the fleet activates one of them.
func releaseParts(ctx context.Context, tx *sql.Tx, r fleet.Release, devicesOf int64) ([]fleet.Part, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT ri.id, im.id, im.service, s.name, im.location, COALESCE(im.content_hash, ''), COALESCE(im.image_size, 0),
			im.status, COALESCE(im.contract, '')
		FROM release_images ri JOIN images im ON im.id = ri.image JOIN services s ON s.id = im.service
		WHERE ri.release = $1 AND (NOT EXISTS (SELECT 1 FROM image_profiles p WHERE p.release_image = ri.id) OR EXISTS (
			SELECT 1 FROM image_profiles p JOIN fleet_profiles a ON a.profile_name = p.profile_name
			WHERE p.release_image = ri.id AND a.fleet = $2 AND a.on_fleet = $3))
		ORDER BY s.name`, r.ID, devicesOf, r.Fleet)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []fleet.Part
	var links []int64
	for rows.Next() {
		var p fleet.Part
		var link int64
		var contract string
		if err := rows.Scan(&link, &p.Image.ID, &p.Image.Service, &p.Image.ServiceName, &p.Image.Location, &p.Image.Digest,
			&p.Image.Size, &p.Image.Status, &contract); err != nil {
			return nil, err
		}
		if contract != "" {
			p.Contract = []byte(contract)
		}
		all, links = append(all, p), append(links, link)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i, link := range links {
		if all[i].Labels, err = pairs(tx.QueryContext(ctx, `SELECT label_name, value FROM image_labels WHERE release_image = $1`, link)); err != nil {
			return nil, err
		}
		if all[i].ServiceLabels, err = pairs(tx.QueryContext(ctx, `SELECT label_name, value FROM service_labels WHERE service = $1`, all[i].Image.Service)); err != nil {
			return nil, err
		}
		if all[i].ServiceVariables, err = pairs(tx.QueryContext(ctx, `SELECT name, value FROM service_variables WHERE service = $1`, all[i].Image.Service)); err != nil {
			return nil, err
		}
		if all[i].ImageVariables, err = pairs(tx.QueryContext(ctx, `SELECT name, value FROM image_variables WHERE release_image = $1`, link)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func pairs(rows *sql.Rows, err error) (map[string]string, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	m := map[string]string{}
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			return nil, err
		}
		m[k] = v
	}
	return m, rows.Err()
}
