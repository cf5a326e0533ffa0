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
		if *v.into, err = pairs(ctx, tx, v.query, v.id); err != nil {
			return err
		}
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
	if p.Services, err = releaseParts(ctx, tx, r.ID); err != nil {
		return err
	}
	for i := range p.Services {
		s := &p.Services[i]
		if s.ServiceVariables, err = pairs(ctx, tx, `SELECT name, value FROM service_variables WHERE service = $1`, s.Image.Service); err != nil {
			return err
		}
		if s.DeviceVariables, err = pairs(ctx, tx, `
			SELECT v.name, v.value FROM device_service_variables v JOIN service_installs si ON si.id = v.service_install
			WHERE si.service = $1 AND si.device = $2`, s.Image.Service, p.Device.ID); err != nil {
			return err
		}
	}
	return nil
}

// releaseParts are the services of a release with the labels and variables of their images.
func releaseParts(ctx context.Context, tx *sql.Tx, release int64) ([]fleet.Part, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT ri.id, im.id, im.service, s.name, im.location, COALESCE(im.content_hash, ''), COALESCE(im.image_size, 0),
			im.status, COALESCE(im.contract, '')
		FROM release_images ri JOIN images im ON im.id = ri.image JOIN services s ON s.id = im.service
		WHERE ri.release = $1 ORDER BY s.name`, release)
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
		if all[i].Labels, err = pairs(ctx, tx, `SELECT label_name, value FROM image_labels WHERE release_image = $1`, link); err != nil {
			return nil, err
		}
		if all[i].ImageVariables, err = pairs(ctx, tx, `SELECT name, value FROM image_variables WHERE release_image = $1`, link); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func pairs(ctx context.Context, tx *sql.Tx, query string, args ...any) (map[string]string, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
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
