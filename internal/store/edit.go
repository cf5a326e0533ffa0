package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// What a change of a resource needs beyond its own row, inside the transaction of that change.

// NewActor makes the actor of something: a user, a device or an application.
func NewActor(ctx context.Context, tx *sql.Tx, kind string) (int64, error) {
	id, err := insertActor(ctx, tx, kind)
	if err != nil {
		return 0, fmt.Errorf("make actor: %w", err)
	}
	return id, nil
}

// Handle is the handle of an organization.
func Handle(ctx context.Context, tx *sql.Tx, organization int64) (handle string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT handle FROM organizations WHERE id = $1`, organization).Scan(&handle)
	return handle, missing(err, "organization", organization)
}

// DefaultApplicationType is the type of a fleet of which nobody said another.
func DefaultApplicationType(ctx context.Context, tx *sql.Tx) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM application_types WHERE slug = 'default'`).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("find default application type: %w", err)
	}
	return id, nil
}

// Architecture is the slug of the processor architecture of a device type.
func Architecture(ctx context.Context, tx *sql.Tx, deviceType int64) (slug string, err error) {
	err = tx.QueryRowContext(ctx, `
		SELECT a.slug FROM device_types t JOIN cpu_architectures a ON a.id = t.cpu_architecture WHERE t.id = $1`, deviceType).Scan(&slug)
	return slug, missing(err, "device type", deviceType)
}

// Architectures are those of the devices of a fleet.
func Architectures(ctx context.Context, tx *sql.Tx, fleetID int64) ([]string, error) {
	all, err := column[string](tx.QueryContext(ctx, `
		SELECT DISTINCT a.slug FROM devices d JOIN device_types t ON t.id = d.device_type
		JOIN cpu_architectures a ON a.id = t.cpu_architecture WHERE d.fleet = $1 ORDER BY a.slug`, fleetID))
	if err != nil {
		return nil, fmt.Errorf("list architectures of fleet %d: %w", fleetID, err)
	}
	return all, nil
}

// FleetIn finds a fleet inside tx.
func FleetIn(ctx context.Context, tx *sql.Tx, id int64) (fleet.Fleet, error) {
	f, err := scanFleet(tx.QueryRowContext(ctx, fleetColumns+`WHERE f.id = $1`, id))
	return f, missing(err, "fleet", id)
}

// DeviceIn finds a device inside tx.
func DeviceIn(ctx context.Context, tx *sql.Tx, id int64) (fleet.Device, error) {
	d, err := scanDevice(tx.QueryRowContext(ctx, deviceColumns+`WHERE d.id = $1`, id))
	return d, missing(err, "device", id)
}

// ReleaseIn finds a release inside tx.
func ReleaseIn(ctx context.Context, tx *sql.Tx, id int64) (fleet.Release, error) {
	r, err := scanRelease(tx.QueryRowContext(ctx, releaseColumns+`WHERE id = $1`, id))
	return r, missing(err, "release", id)
}

func missing(err error, what string, id int64) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.Newf(fault.NotFound, "there is no such %s", what)
	}
	if err != nil {
		return fmt.Errorf("load %s %d: %w", what, id, err)
	}
	return nil
}

// HostFleet reports whether the releases of a fleet are an operating system.
func HostFleet(ctx context.Context, tx *sql.Tx, fleetID int64) (host bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT is_host FROM fleets WHERE id = $1`, fleetID).Scan(&host)
	return host, missing(err, "fleet", fleetID)
}

// FleetDeviceType is the device type that a fleet is for.
func FleetDeviceType(ctx context.Context, tx *sql.Tx, fleetID int64) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT device_type FROM fleets WHERE id = $1`, fleetID).Scan(&id)
	return id, missing(err, "fleet", fleetID)
}

// InstallFleet is the fleet of the device of an image_install row.
func InstallFleet(ctx context.Context, tx *sql.Tx, id int64) (fleetID int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT d.fleet FROM image_installs i JOIN devices d ON d.id = i.device WHERE i.id = $1`, id).Scan(&fleetID)
	return fleetID, missing(err, "image_install", id)
}

// OrganizationRank is what a user's role in an organization may do; fleet.Member, 0, also where the user has none.
func OrganizationRank(ctx context.Context, tx *sql.Tx, user, organization int64) (rank fleet.Rank, err error) {
	err = tx.QueryRowContext(ctx, `
		SELECT COALESCE(MAX(r.rank), 0) FROM organization_memberships m JOIN roles r ON r.id = m.role
		WHERE m.user_id = $1 AND m.organization = $2`, user, organization).Scan(&rank)
	if err != nil {
		return 0, fmt.Errorf("look up rank of user %d in organization %d: %w", user, organization, err)
	}
	return rank, nil
}

// FreeDeviceName is wanted, or the first of names that no device of a fleet has, when wanted is "" or taken.
func FreeDeviceName(ctx context.Context, tx *sql.Tx, fleetID int64, wanted string, names func(taken int) string) (string, error) {
	name, err := freeName(ctx, tx, NewDevice{Fleet: fleetID, Name: wanted, Names: names})
	if err != nil {
		return "", fmt.Errorf("name a device of fleet %d: %w", fleetID, err)
	}
	return name, nil
}

// InstallService makes a service known to all devices of its fleet, so that it can have variables there.
func InstallService(ctx context.Context, tx *sql.Tx, service, now int64) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO service_installs (created_at, modified_at, device, service)
		SELECT $1, $1, d.id, s.id FROM services s JOIN devices d ON d.fleet = s.fleet WHERE s.id = $2
		ON CONFLICT (device, service) DO NOTHING`, now, service); err != nil {
		return fmt.Errorf("install service %d: %w", service, err)
	}
	return nil
}

// ServiceUse says what a service is to its fleet.
type ServiceUse struct {
	Fleet int64
	Name  string
	// Releases that have an image of it, and the compositions of those of them that are running or came out well.
	Releases     int
	Compositions [][]byte
}

// ServiceIn finds a service inside tx.
func ServiceIn(ctx context.Context, tx *sql.Tx, id int64) (u ServiceUse, err error) {
	if err := missing(tx.QueryRowContext(ctx, `SELECT fleet, name FROM services WHERE id = $1`, id).Scan(&u.Fleet, &u.Name), "service", id); err != nil {
		return u, err
	}
	const releases = ` FROM releases r WHERE r.id IN (
		SELECT ri.release FROM release_images ri JOIN images i ON i.id = ri.image WHERE i.service = $1)`
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*)`+releases, id).Scan(&u.Releases); err != nil {
		return u, fmt.Errorf("load service %d: %w", id, err)
	}
	all, err := column[string](tx.QueryContext(ctx, `SELECT r.composition`+releases+` AND r.status IN ('running', 'success')`, id))
	if err != nil {
		return u, fmt.Errorf("load service %d: %w", id, err)
	}
	for _, c := range all {
		u.Compositions = append(u.Compositions, []byte(c))
	}
	return u, nil
}

// ServiceNamed is the id of a service of a fleet; 0 if the fleet has none of that name.
func ServiceNamed(ctx context.Context, tx *sql.Tx, fleetID int64, name string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM services WHERE fleet = $1 AND name = $2`, fleetID, name).Scan(&id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("find service %s of fleet %d: %w", name, fleetID, err)
	}
	return id, nil
}

// ServiceInstall is the id of the row for a service on a device; 0 if the service is of another fleet.
func ServiceInstall(ctx context.Context, tx *sql.Tx, device, service int64) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM service_installs WHERE device = $1 AND service = $2`, device, service).Scan(&id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("find service %d on device %d: %w", service, device, err)
	}
	return id, nil
}

// ImageUse is an image with what its rules go by.
type ImageUse struct {
	fleet.Image
	Fleet int64
	// Ours: this server builds it, or has built it.
	Ours    bool
	Settled bool // a release that came out well has it
	Pushed  bool // it has a push_timestamp
}

const imageUse = `
	SELECT i.id, i.service, s.name, i.location, COALESCE(i.content_hash, ''), COALESCE(i.image_size, 0), i.status, s.fleet,
		EXISTS (SELECT 1 FROM release_images l JOIN releases r ON r.id = l.release WHERE l.image = i.id AND NOT r.deployed),
		EXISTS (SELECT 1 FROM release_images l JOIN releases r ON r.id = l.release WHERE l.image = i.id AND r.status = 'success'),
		i.push_timestamp IS NOT NULL
	FROM images i JOIN services s ON s.id = i.service `

func scanImageUse(row interface{ Scan(...any) error }) (u ImageUse, err error) {
	err = row.Scan(&u.ID, &u.Service, &u.ServiceName, &u.Location, &u.Digest, &u.Size, &u.Status, &u.Fleet, &u.Ours, &u.Settled, &u.Pushed)
	return u, err
}

// ImageIn finds an image inside tx.
func ImageIn(ctx context.Context, tx *sql.Tx, id int64) (ImageUse, error) {
	u, err := scanImageUse(tx.QueryRowContext(ctx, imageUse+`WHERE i.id = $1`, id))
	return u, missing(err, "image", id)
}

// ReleaseImages are the images of a release, by the names of their services.
func ReleaseImages(ctx context.Context, tx *sql.Tx, release int64) ([]ImageUse, error) {
	rows, err := tx.QueryContext(ctx, imageUse+`
		WHERE i.id IN (SELECT ri.image FROM release_images ri WHERE ri.release = $1) ORDER BY s.name, i.id`, release)
	if err != nil {
		return nil, fmt.Errorf("list images of release %d: %w", release, err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (ImageUse, error) { return scanImageUse(rows) })
	if err != nil {
		return nil, fmt.Errorf("list images of release %d: %w", release, err)
	}
	return all, nil
}

// ReleaseOf is the release that a release_image row is part of.
func ReleaseOf(ctx context.Context, tx *sql.Tx, releaseImage int64) (fleet.Release, error) {
	r, err := scanRelease(tx.QueryRowContext(ctx, releaseColumns+`WHERE id = (SELECT release FROM release_images WHERE id = $1)`, releaseImage))
	return r, missing(err, "release_image", releaseImage)
}

// Multicontainer reports whether the releases of a fleet may have more than one service.
func Multicontainer(ctx context.Context, tx *sql.Tx, fleetID int64) (may bool, err error) {
	err = tx.QueryRowContext(ctx, `
		SELECT t.supports_multicontainer FROM fleets f JOIN application_types t ON t.id = f.application_type WHERE f.id = $1`, fleetID).Scan(&may)
	return may, missing(err, "fleet", fleetID)
}

// ReleaseFollowed reports whether a fleet or a device is told to run a release.
func ReleaseFollowed(ctx context.Context, tx *sql.Tx, release int64) (followed bool, err error) {
	err = tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM fleets WHERE target_release = $1)
			OR EXISTS (SELECT 1 FROM devices WHERE pinned_release = $1)
			OR EXISTS (SELECT 1 FROM devices WHERE operated_by = $1)
			OR EXISTS (SELECT 1 FROM devices WHERE managed_by = $1)`, release).Scan(&followed)
	if err != nil {
		return false, fmt.Errorf("look up who runs release %d: %w", release, err)
	}
	return followed, nil
}

// SucceedRelease ends a release well and makes it final, unless it is to be a draft. One that has ended keeps its time.
// Whether the fleet follows it is FollowLatest's.
func SucceedRelease(ctx context.Context, tx *sql.Tx, r fleet.Release, now int64) error {
	if _, err := tx.ExecContext(ctx, `
		UPDATE releases SET status = 'success', modified_at = $1, update_timestamp = $1, end_timestamp = COALESCE(end_timestamp, $1)
		WHERE id = $2`, now, r.ID); err != nil {
		return fmt.Errorf("end release %d: %w", r.ID, err)
	}
	if r.WantsDraft {
		return nil
	}
	return FinalizeRelease(ctx, tx, r.ID, now)
}

// LinkedRelease is the release_image that a row of one of its tables hangs from. table is one of the program's own.
func LinkedRelease(ctx context.Context, tx *sql.Tx, table string, id int64) (releaseImage int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT release_image FROM `+table+` WHERE id = $1`, id).Scan(&releaseImage)
	return releaseImage, missing(err, table, id)
}

// DropUnusedImages deletes the images of the fleet's services that no release has, other than those being made.
func DropUnusedImages(ctx context.Context, tx *sql.Tx, fleetID int64) error {
	if _, err := tx.ExecContext(ctx, `
		DELETE FROM images WHERE status <> 'running' AND service IN (SELECT id FROM services WHERE fleet = $1)
			AND NOT EXISTS (SELECT 1 FROM release_images ri WHERE ri.image = images.id)`, fleetID); err != nil {
		return fmt.Errorf("drop unused images of fleet %d: %w", fleetID, err)
	}
	return nil
}

// Unpinned are the devices of a fleet that follow its target. all is true when that is every one of them, and then
// they are not listed.
func Unpinned(ctx context.Context, tx *sql.Tx, fleetID int64) (devices []int64, all bool, err error) {
	var pinned bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM devices WHERE fleet = $1 AND pinned_release IS NOT NULL)`, fleetID).Scan(&pinned); err != nil {
		return nil, false, fmt.Errorf("list devices of fleet %d: %w", fleetID, err)
	}
	if !pinned {
		return nil, true, nil
	}
	devices, err = column[int64](tx.QueryContext(ctx, `SELECT id FROM devices WHERE fleet = $1 AND pinned_release IS NULL ORDER BY id`, fleetID))
	if err != nil {
		return nil, false, fmt.Errorf("list devices of fleet %d: %w", fleetID, err)
	}
	return devices, false, nil
}

// LeaveOrganization ends what the people of an organization hold of a fleet that goes to another one: their teams'
// access, single memberships, invitations, and the provisioning keys that they know.
func LeaveOrganization(ctx context.Context, tx *sql.Tx, fleetID int64) error {
	for _, table := range []string{"team_fleets", "fleet_memberships", "fleet_invites"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE fleet = $1`, fleetID); err != nil {
			return fmt.Errorf("move fleet %d: %w", fleetID, err)
		}
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM api_keys WHERE actor = (SELECT actor FROM fleets WHERE id = $1)`, fleetID); err != nil {
		return fmt.Errorf("move fleet %d: %w", fleetID, err)
	}
	return nil
}

// SSHKeyTaken reports whether some user has the key of that fingerprint.
func SSHKeyTaken(ctx context.Context, tx *sql.Tx, fingerprint string) (taken bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM ssh_keys WHERE fingerprint = $1)`, fingerprint).Scan(&taken)
	if err != nil {
		return false, fmt.Errorf("find SSH key: %w", err)
	}
	return taken, nil
}

// Settle makes devices that are new or were moved at home in the fleets they are in now: they forget releases of
// another fleet, pinned or running, and have the services of their own one, with no variables yet.
func Settle(ctx context.Context, tx *sql.Tx, devices []int64, now int64) error {
	for _, id := range devices {
		for _, column := range []string{"running_release", "pinned_release"} {
			if _, err := tx.ExecContext(ctx, `
				UPDATE devices SET `+column+` = NULL WHERE id = $1
					AND `+column+` IN (SELECT r.id FROM releases r WHERE r.fleet <> devices.fleet)`, id); err != nil {
				return fmt.Errorf("settle device %d: %w", id, err)
			}
		}
		if _, err := tx.ExecContext(ctx, `
			DELETE FROM service_installs WHERE device = $1 AND service NOT IN (
				SELECT s.id FROM services s JOIN devices d ON d.fleet = s.fleet WHERE d.id = $1)`, id); err != nil {
			return fmt.Errorf("settle device %d: %w", id, err)
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO service_installs (created_at, modified_at, device, service)
			SELECT $1, $1, d.id, s.id FROM devices d JOIN services s ON s.fleet = d.fleet WHERE d.id = $2
			ON CONFLICT (device, service) DO NOTHING`, now, id); err != nil {
			return fmt.Errorf("settle device %d: %w", id, err)
		}
	}
	return nil
}

// EndRelease ends a running release and its unfinished images, not well: with a status other than success. A release
// that ended already is left as it is.
func EndRelease(ctx context.Context, tx *sql.Tx, release int64, status fleet.Status, now int64) error {
	if _, err := tx.ExecContext(ctx, `
		UPDATE images SET status = $1, modified_at = $2, end_timestamp = $2
		WHERE status = 'running' AND id IN (SELECT image FROM release_images WHERE release = $3)`, string(status), now, release); err != nil {
		return fmt.Errorf("end release %d: %w", release, err)
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE releases SET status = $1, modified_at = $2, end_timestamp = $2, update_timestamp = $2
		WHERE id = $3 AND status = 'running'`, string(status), now, release); err != nil {
		return fmt.Errorf("end release %d: %w", release, err)
	}
	return nil
}
