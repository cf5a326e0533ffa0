package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

const releaseColumns = `
	SELECT id, fleet, commit_id, status, semver_major, semver_minor, semver_patch, semver_prerelease, semver_build, variant,
		COALESCE(revision, -1), composition, COALESCE(contract, ''), COALESCE(note, ''), created_at, start_timestamp,
		COALESCE(end_timestamp, 0), git_commit, git_ref, draft, nocache, dockerfile_path, deployed
	FROM releases `

func scanRelease(row interface{ Scan(...any) error }) (r fleet.Release, err error) {
	var composition, contract string
	var created, started, ended int64
	err = row.Scan(&r.ID, &r.Fleet, &r.Commit, &r.Status, &r.Version.Major, &r.Version.Minor, &r.Version.Patch,
		&r.Version.Prerelease, &r.Version.Build, &r.Version.Variant, &r.Revision, &composition, &contract, &r.Note,
		&created, &started, &ended, &r.GitCommit, &r.GitRef, &r.WantsDraft, &r.NoCache, &r.Dockerfile, &r.Deployed)
	r.Composition = []byte(composition)
	if contract != "" {
		r.Contract = []byte(contract)
	}
	r.Created, r.Started, r.Ended = Time(created), Time(started), Time(ended)
	return r, err
}

// NewRelease is what a push begins with.
type NewRelease struct {
	Fleet          int64
	Commit         string // 32 hex
	GitCommit, Ref string
	User           int64  // who pushed; 0 for nobody
	Root           string // becomes the fleet's root commit when the release succeeds; "" leaves it
	Draft, NoCache bool
	Dockerfile     string // path in the source; "" lets the builder look for one
}

// BeginRelease records a release as running before anything is done for it. One that is running for the same
// commit already is returned as it is, with begun false.
func (db *DB) BeginRelease(ctx context.Context, n NewRelease) (r fleet.Release, begun bool, err error) {
	now := db.now()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		r, err = scanRelease(tx.QueryRowContext(ctx, releaseColumns+`
			WHERE fleet = $1 AND commit_id = $2 AND status = 'running' AND NOT deployed`, n.Fleet, n.Commit))
		if err == nil || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		begun = true
		var id int64
		if err := tx.QueryRowContext(ctx, `
			INSERT INTO releases (created_at, modified_at, fleet, commit_id, git_commit, git_ref, created_by, status, draft, nocache,
				root_commit, dockerfile_path, start_timestamp, update_timestamp)
			VALUES ($1, $1, $2, $3, $4, $5, $6, 'running', $7, $8, $9, $10, $1, $1) RETURNING id`,
			now, n.Fleet, n.Commit, n.GitCommit, n.Ref, nullInt(n.User), n.Draft, n.NoCache, n.Root, n.Dockerfile).Scan(&id); err != nil {
			return err
		}
		r, err = scanRelease(tx.QueryRowContext(ctx, releaseColumns+`WHERE id = $1`, id))
		return err
	})
	if err != nil {
		return r, false, fmt.Errorf("begin release %s of fleet %d: %w", n.Commit, n.Fleet, err)
	}
	return r, begun, nil
}

// Release finds a release by its id.
func (db *DB) Release(ctx context.Context, id int64) (fleet.Release, error) {
	r, err := scanRelease(db.reader.QueryRowContext(ctx, releaseColumns+`WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return r, fault.New(fault.NotFound, "there is no such release")
	}
	if err != nil {
		return r, fmt.Errorf("load release %d: %w", id, err)
	}
	return r, nil
}

// Succeeded finds the one successful release of a commit; found is false if there is none.
func (db *DB) Succeeded(ctx context.Context, fleetID int64, commit string) (r fleet.Release, found bool, err error) {
	r, err = scanRelease(db.reader.QueryRowContext(ctx, releaseColumns+`
		WHERE fleet = $1 AND commit_id = $2 AND status = 'success'`, fleetID, commit))
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("find release %s of fleet %d: %w", commit, fleetID, err)
	}
	return r, true, nil
}

// Unfinished are the releases that a push began and nobody ended, oldest first.
func (db *DB) Unfinished(ctx context.Context) ([]fleet.Release, error) {
	rows, err := db.reader.QueryContext(ctx, releaseColumns+`WHERE status = 'running' AND NOT deployed ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list unfinished releases: %w", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (fleet.Release, error) { return scanRelease(rows) })
	if err != nil {
		return nil, fmt.Errorf("list unfinished releases: %w", err)
	}
	return all, nil
}

// Outline is what the builder found in a release's source.
type Outline struct {
	Composition, Contract []byte
	Version               fleet.Version
	Services              []OutlineService
}

// OutlineService is one service of an Outline.
type OutlineService struct {
	Name              string
	Repository        string // v2/<32 hex>, for a new image; one recorded earlier keeps its own
	Location          string
	ProjectType       string
	Labels, Variables map[string]string
	Contract          []byte
}

// Outlined records what a release will be made of: its composition, services, and an image row for each, before any
// of them is built. Recording it again (after a restart) keeps the images that are there. It returns the images.
func (db *DB) Outlined(ctx context.Context, r fleet.Release, o Outline) ([]fleet.Image, error) {
	now := db.now()
	var images []fleet.Image
	err := db.Write(ctx, func(tx *sql.Tx) error {
		v := o.Version
		if _, err := tx.ExecContext(ctx, `
			UPDATE releases SET modified_at = $1, update_timestamp = $1, composition = $2, contract = $3, semver_major = $4,
				semver_minor = $5, semver_patch = $6, semver_prerelease = $7, semver_build = $8, variant = $9 WHERE id = $10`,
			now, string(o.Composition), nullText(string(o.Contract)), v.Major, v.Minor, v.Patch, v.Prerelease, v.Build,
			v.Variant, r.ID); err != nil {
			return err
		}
		for _, s := range o.Services {
			service, err := ensureService(ctx, tx, r.Fleet, s.Name, now)
			if err != nil {
				return fmt.Errorf("service %s: %w", s.Name, err)
			}
			image, err := ensureImage(ctx, tx, r.ID, service, s, now)
			if err != nil {
				return fmt.Errorf("image of service %s: %w", s.Name, err)
			}
			image.ServiceName = s.Name
			images = append(images, image)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("outline release %d: %w", r.ID, err)
	}
	return images, nil
}

// ensureService finds or makes a service of a fleet and its installs on every device of it.
func ensureService(ctx context.Context, tx *sql.Tx, fleetID int64, name string, now int64) (int64, error) {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO services (created_at, modified_at, fleet, name) VALUES ($1, $1, $2, $3)
		ON CONFLICT (fleet, name) DO NOTHING`, now, fleetID, name); err != nil {
		return 0, err
	}
	var id int64
	if err := tx.QueryRowContext(ctx, `SELECT id FROM services WHERE fleet = $1 AND name = $2`, fleetID, name).Scan(&id); err != nil {
		return 0, err
	}
	return id, InstallService(ctx, tx, id, now)
}

func ensureImage(ctx context.Context, tx *sql.Tx, release, service int64, s OutlineService, now int64) (fleet.Image, error) {
	i := fleet.Image{Service: service}
	err := tx.QueryRowContext(ctx, `
		SELECT im.id, im.location, COALESCE(im.content_hash, ''), COALESCE(im.image_size, 0), im.status
		FROM release_images ri JOIN images im ON im.id = ri.image WHERE ri.release = $1 AND im.service = $2`,
		release, service).Scan(&i.ID, &i.Location, &i.Digest, &i.Size, &i.Status)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return i, err
	}
	i.Location, i.Status = s.Location, fleet.Running
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO images (created_at, modified_at, service, location, repository, status, project_type, contract, start_timestamp)
		VALUES ($1, $1, $2, $3, $4, 'running', $5, $6, $1) RETURNING id`,
		now, service, s.Location, s.Repository, nullText(s.ProjectType), nullText(string(s.Contract))).Scan(&i.ID); err != nil {
		return i, err
	}
	var link int64
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO release_images (created_at, modified_at, image, release) VALUES ($1, $1, $2, $3) RETURNING id`,
		now, i.ID, release).Scan(&link); err != nil {
		return i, err
	}
	for name, value := range s.Labels {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO image_labels (created_at, modified_at, release_image, label_name, value) VALUES ($1, $1, $2, $3, $4)`,
			now, link, name, value); err != nil {
			return i, err
		}
	}
	for name, value := range s.Variables {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO image_variables (created_at, modified_at, release_image, name, value) VALUES ($1, $1, $2, $3, $4)`,
			now, link, name, value); err != nil {
			return i, err
		}
	}
	return i, nil
}

// Built is how the build of an image ended well.
type Built struct {
	Digest                  string // of the manifest in the registry
	Size                    int64  // bytes
	ProjectType, Dockerfile string
}

// ImageBuilt records that an image is in the registry.
func (db *DB) ImageBuilt(ctx context.Context, image int64, b Built) error {
	now := db.now()
	return db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			UPDATE images SET modified_at = $1, end_timestamp = $1, push_timestamp = $1, status = 'success', content_hash = $2,
				image_size = $3, project_type = $4, dockerfile = $5 WHERE id = $6 AND status = 'running'`,
			now, b.Digest, b.Size, nullText(b.ProjectType), nullText(b.Dockerfile), image)
		return err
	})
}

// Succeed ends a running release well: it becomes final unless it is to be a draft, and the fleet's target moves to
// it if the fleet tracks the latest. ended is false when the release was no longer running, as after a cancel.
func (db *DB) Succeed(ctx context.Context, r fleet.Release, buildLog string) (ended bool, err error) {
	now := db.now()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `
			UPDATE releases SET status = 'success', modified_at = $1, end_timestamp = $1, update_timestamp = $1, build_log = $2
			WHERE id = $3 AND status = 'running'`, now, buildLog, r.ID)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		ended = true
		if _, err := tx.ExecContext(ctx, `
			UPDATE fleets SET root_commit = r.root_commit FROM releases r
			WHERE r.id = $1 AND fleets.id = r.fleet AND r.root_commit <> ''`, r.ID); err != nil {
			return err
		}
		if r.WantsDraft {
			return nil // the target is no business of a draft's
		}
		if err := FinalizeRelease(ctx, tx, r.ID, now); err != nil {
			return err
		}
		_, err = FollowLatest(ctx, tx, r.Fleet, now)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("end release %d: %w", r.ID, err)
	}
	return ended, nil
}

// Finalize makes a draft final and moves the fleet's target as Succeed does.
func (db *DB) Finalize(ctx context.Context, r fleet.Release) error {
	now := db.now()
	return db.Write(ctx, func(tx *sql.Tx) error {
		if err := FinalizeRelease(ctx, tx, r.ID, now); err != nil {
			return err
		}
		_, err := FollowLatest(ctx, tx, r.Fleet, now)
		return err
	})
}

// Fail ends a running release and its unfinished images with a state other than success. The fleet stays as it was.
// One that was cancelled meanwhile stays so, and gets the log of what had been built.
func (db *DB) Fail(ctx context.Context, release int64, status fleet.Status, reason, buildLog string) error {
	now := db.now()
	err := db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE images SET status = $1, modified_at = $2, end_timestamp = $2, error_message = $3
			WHERE status = 'running' AND id IN (SELECT image FROM release_images WHERE release = $4)`,
			string(status), now, reason, release); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE releases SET status = $1, modified_at = $2, end_timestamp = $2, update_timestamp = $2, error_message = $3,
				build_log = $4 WHERE id = $5 AND status = 'running'`, string(status), now, reason, buildLog, release); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			UPDATE releases SET build_log = $1 WHERE id = $2 AND status = 'cancelled' AND build_log IS NULL`, buildLog, release)
		return err
	})
	if err != nil {
		return fmt.Errorf("end release %d: %w", release, err)
	}
	return nil
}
