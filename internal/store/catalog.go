package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
)

// HostOrganization owns the fleets that stand for host systems: balena's handle, which its clients know.
const HostOrganization = "balena_os"

// loadCatalog brings the tables of architectures, device types, application types and host systems up to the built-in
// catalog. Rows are added and renamed, never removed: devices may refer to them.
func (db *DB) loadCatalog(ctx context.Context) error {
	now, edition := db.now(), catalogEdition()
	return db.Write(ctx, func(tx *sql.Tx) error {
		// Most starts find the catalog that they would write, and need not say it in hundreds of statements.
		done, err := tx.ExecContext(ctx, `
			INSERT INTO settings (name, value) VALUES ('catalog', $1)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE settings.value <> excluded.value`, edition)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO application_types (created_at, modified_at, slug, name, supports_multicontainer)
			VALUES ($1, $1, 'default', 'Default', TRUE) ON CONFLICT (slug) DO NOTHING`, now); err != nil {
			return err
		}
		for _, a := range fleet.Architectures {
			if _, err := tx.ExecContext(ctx, `
				INSERT INTO cpu_architectures (created_at, modified_at, slug) VALUES ($1, $1, $2)
				ON CONFLICT (slug) DO NOTHING`, now, a.Slug); err != nil {
				return fmt.Errorf("architecture %s: %w", a.Slug, err)
			}
		}
		for _, f := range fleet.Families {
			if err := loadFamily(ctx, tx, f, now); err != nil {
				return fmt.Errorf("device family %s: %w", f.Slug, err)
			}
		}
		for _, t := range fleet.DeviceTypes {
			if err := loadDeviceType(ctx, tx, t, now); err != nil {
				return fmt.Errorf("device type %s: %w", t.Slug, err)
			}
		}
		return loadHosts(ctx, tx, now)
	})
}

// catalogForm counts the changes of the code below that write other rows for the same catalog.
const catalogForm = 1

// catalogEdition is a hash of all that the rows of the catalog are made of.
func catalogEdition() string {
	h := sha256.New()
	fmt.Fprintln(h, catalogForm)
	for _, part := range []any{fleet.Architectures, fleet.Families, fleet.DeviceTypes} {
		if err := json.NewEncoder(h).Encode(part); err != nil {
			panic(err) // they are plain values
		}
	}
	for _, t := range fleet.DeviceTypes {
		r, _ := t.Release()
		fmt.Fprintf(h, "%s%+v\n", t.Contract(), r)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func loadFamily(ctx context.Context, tx *sql.Tx, f fleet.Family, now int64) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO device_manufacturers (created_at, modified_at, slug, name) VALUES ($1, $1, $2, $3)
		ON CONFLICT (slug) DO UPDATE SET name = excluded.name`, now, f.Maker, f.MakerName); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO device_families (created_at, modified_at, slug, name, manufacturer)
		SELECT $1, $1, $2, $3, id FROM device_manufacturers WHERE slug = $4
		ON CONFLICT (slug) DO UPDATE SET name = excluded.name, manufacturer = excluded.manufacturer`, now, f.Slug, f.Name, f.Maker)
	return err
}

func loadDeviceType(ctx context.Context, tx *sql.Tx, t fleet.DeviceType, now int64) error {
	var id int64
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO device_types (created_at, modified_at, slug, name, cpu_architecture, family, contract)
		SELECT $1, $1, $2, $3, a.id, (SELECT f.id FROM device_families f WHERE f.slug = $5), $6
		FROM cpu_architectures a WHERE a.slug = $4
		ON CONFLICT (slug) DO UPDATE SET name = excluded.name, family = excluded.family, contract = excluded.contract
		RETURNING id`, now, t.Slug, t.Name, t.Arch, t.Family, string(t.Contract())).Scan(&id); err != nil {
		return err
	}
	for _, alias := range append([]string{t.Slug}, t.Aliases...) {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO device_type_aliases (created_at, modified_at, device_type, alias) VALUES ($1, $1, $2, $3)
			ON CONFLICT (alias) DO NOTHING`, now, id, alias); err != nil {
			return fmt.Errorf("alias %s: %w", alias, err)
		}
	}
	return nil
}

// loadHosts adds a public fleet for each device type that balenaOS is made for, with its newest version as a final
// release: clients find there which types are supported and which versions there are (protocol §6.6). The releases have
// no images. An organization of people that has the handle already keeps it, and then there are no such fleets.
func loadHosts(ctx context.Context, tx *sql.Tx, now int64) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO organizations (created_at, modified_at, handle, name) VALUES ($1, $1, $2, 'balenaOS')
		ON CONFLICT (handle) DO NOTHING`, now, HostOrganization); err != nil {
		return err
	}
	var organization int64
	var peopled bool
	if err := tx.QueryRowContext(ctx, `
		SELECT o.id, EXISTS (SELECT 1 FROM organization_memberships m WHERE m.organization = o.id)
		FROM organizations o WHERE o.handle = $1`, HostOrganization).Scan(&organization, &peopled); err != nil || peopled {
		return err
	}
	for _, t := range fleet.DeviceTypes {
		if r, ok := t.Release(); ok {
			if err := loadHost(ctx, tx, t, r, organization, now); err != nil {
				return fmt.Errorf("host system of %s: %w", t.Slug, err)
			}
		}
	}
	return nil
}

func loadHost(ctx context.Context, tx *sql.Tx, t fleet.DeviceType, r fleet.OSRelease, organization, now int64) error {
	version, err := fleet.ParseVersion(r.Version)
	if err != nil {
		return err
	}
	made, err := time.Parse(time.DateOnly, r.Date)
	if err != nil {
		return err
	}
	slug := fleet.Slug(HostOrganization, t.Slug)
	var id int64
	err = tx.QueryRowContext(ctx, `SELECT id FROM fleets WHERE slug = $1`, slug).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		actor, err := insertActor(ctx, tx, "application")
		if err != nil {
			return err
		}
		err = tx.QueryRowContext(ctx, `
			INSERT INTO fleets (created_at, modified_at, actor, organization, name, slug, uuid, class, device_type, application_type,
				track_latest, is_host, is_public)
			SELECT $1, $1, $2, $3, t.slug, $4, $5, 'app', t.id, y.id, TRUE, TRUE, TRUE
			FROM device_types t JOIN application_types y ON y.slug = 'default' WHERE t.slug = $6 RETURNING id`,
			now, actor, organization, slug, fleet.NewUUID(digest(slug)), t.Slug).Scan(&id)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	commit := digest(slug + " " + r.Version)
	var release int64
	err = tx.QueryRowContext(ctx, `SELECT id FROM releases WHERE fleet = $1 AND commit_id = $2`, id, hex.EncodeToString(commit[:])).Scan(&release)
	if err == nil {
		return nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO releases (created_at, modified_at, fleet, commit_id, status, source, start_timestamp, end_timestamp,
			update_timestamp, finalized_at, revision, semver_major, semver_minor, semver_patch, semver_prerelease, semver_build, variant)
		VALUES ($1, $1, $2, $3, 'success', 'cloud', $1, $1, $1, $1, 0, $4, $5, $6, $7, $8, $9) RETURNING id`,
		made.UnixMicro(), id, hex.EncodeToString(commit[:]), version.Major, version.Minor, version.Patch, version.Prerelease,
		version.Build, version.Variant).Scan(&release); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE fleets SET target_release = $1, modified_at = $2 WHERE id = $3`, release, now, id)
	return err
}

// digest is 16 bytes that are the same on every server, so that what the catalog makes has the same identity everywhere.
func digest(name string) (b [16]byte) {
	sum := sha256.Sum256([]byte(name))
	copy(b[:], sum[:])
	return b
}
