-- +goose Up

-- People: roles, teams, invitations, the audit trail.

-- One list of roles for organizations and for single fleets. The rank says what a role may do, each the more the
-- higher it is: 1 look, 2 operate devices, 3 develop (source, releases, fleets, variables), 4 own (members, roles).
-- Rank 0 sees the organization and none of its fleets. administrator and member are balena's names.
CREATE TABLE roles (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at      BIGINT NOT NULL,
  modified_at     BIGINT NOT NULL,
  name            TEXT NOT NULL UNIQUE,
  rank            BIGINT NOT NULL,
  of_organization BOOLEAN NOT NULL,
  of_fleet        BOOLEAN NOT NULL
);
INSERT INTO roles (id, created_at, modified_at, name, rank, of_organization, of_fleet) VALUES
  (1, 0, 0, 'owner', 4, TRUE, FALSE),
  (2, 0, 0, 'developer', 3, TRUE, TRUE),
  (3, 0, 0, 'operator', 2, TRUE, TRUE),
  (4, 0, 0, 'observer', 1, TRUE, TRUE),
  (5, 0, 0, 'administrator', 4, TRUE, FALSE),
  (6, 0, 0, 'member', 0, TRUE, FALSE);

-- 1 is owner: whoever was a member before there were roles could do everything.
ALTER TABLE organization_memberships ADD COLUMN role BIGINT NOT NULL DEFAULT 1;

-- May make accounts. It is the person who runs the server: the first user, and whom that one names.
ALTER TABLE users ADD COLUMN is_administrator BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE users SET is_administrator = TRUE WHERE id = (SELECT MIN(id) FROM users);

-- Where a user logged in from of late: wrong passwords from elsewhere do not lock the user out there.
CREATE TABLE login_places (
  user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  place   TEXT NOT NULL,                     -- IPv4 address, or the 64-bit network of an IPv6 address
  seen_at BIGINT NOT NULL,
  PRIMARY KEY (user_id, place)
);

CREATE TABLE organization_membership_tags (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  membership  BIGINT NOT NULL REFERENCES organization_memberships (id) ON DELETE CASCADE,
  tag_key     TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (membership, tag_key)
);

CREATE TABLE fleet_memberships (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  user_id     BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  fleet       BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  role        BIGINT NOT NULL REFERENCES roles (id),
  UNIQUE (user_id, fleet)
);
CREATE INDEX fleet_memberships_by_fleet ON fleet_memberships (fleet);

CREATE TABLE teams (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at   BIGINT NOT NULL,
  modified_at  BIGINT NOT NULL,
  organization BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  name         TEXT NOT NULL,
  description  TEXT,
  UNIQUE (organization, name)
);

CREATE TABLE team_memberships (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  user_id     BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  team        BIGINT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  UNIQUE (user_id, team)
);
CREATE INDEX team_memberships_by_team ON team_memberships (team);

CREATE TABLE team_fleets (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  team        BIGINT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  fleet       BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  role        BIGINT NOT NULL REFERENCES roles (id),
  UNIQUE (team, fleet)
);
CREATE INDEX team_fleets_by_fleet ON team_fleets (fleet);

-- Of one organization, so that none learns from a number whom another has invited.
CREATE TABLE invitees (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at   BIGINT NOT NULL,
  modified_at  BIGINT NOT NULL,
  organization BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  email        TEXT NOT NULL,                 -- lower case
  UNIQUE (organization, email)
);

CREATE TABLE organization_invites (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at   BIGINT NOT NULL,
  modified_at  BIGINT NOT NULL,
  invitee      BIGINT NOT NULL REFERENCES invitees (id) ON DELETE CASCADE,
  organization BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  role         BIGINT NOT NULL REFERENCES roles (id),
  message      TEXT,
  token_hash   TEXT NOT NULL UNIQUE,          -- hex SHA-256; the token is shown once to whoever invites
  created_by   BIGINT REFERENCES users (id) ON DELETE SET NULL,
  UNIQUE (invitee, organization)
);
CREATE INDEX organization_invites_by_organization ON organization_invites (organization);

CREATE TABLE fleet_invites (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  invitee     BIGINT NOT NULL REFERENCES invitees (id) ON DELETE CASCADE,
  fleet       BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  role        BIGINT NOT NULL REFERENCES roles (id),
  message     TEXT,
  token_hash  TEXT NOT NULL UNIQUE,
  created_by  BIGINT REFERENCES users (id) ON DELETE SET NULL,
  UNIQUE (invitee, fleet)
);
CREATE INDEX fleet_invites_by_fleet ON fleet_invites (fleet);

-- What a user may do with a fleet, one row for each way that leads there; the highest rank counts. Every rule about
-- people and fleets goes through it.
CREATE VIEW fleet_access (user_id, fleet, rank) AS
  SELECT m.user_id, f.id, r.rank FROM organization_memberships m
    JOIN roles r ON r.id = m.role JOIN fleets f ON f.organization = m.organization
  UNION ALL
  SELECT m.user_id, m.fleet, r.rank FROM fleet_memberships m JOIN roles r ON r.id = m.role
  UNION ALL
  SELECT m.user_id, a.fleet, r.rank FROM team_memberships m
    JOIN team_fleets a ON a.team = m.team JOIN roles r ON r.id = a.role;

-- Who did what, when and from where. Nothing refers to rows here and nothing deletes them: what is gone is still
-- answered for.
CREATE TABLE audit_events (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at   BIGINT NOT NULL,
  modified_at  BIGINT NOT NULL,
  actor        BIGINT,                        -- NULL: nobody who was known
  actor_kind   TEXT NOT NULL,                 -- nobody, user, device, application, server
  actor_name   TEXT NOT NULL DEFAULT '',      -- user name, device uuid or fleet slug at the time
  api_key      BIGINT,                        -- NULL with a session
  address      TEXT NOT NULL DEFAULT '',      -- IP address the request came from
  verb         TEXT NOT NULL,                 -- create, change, delete, login, refuse, push, …
  resource     TEXT NOT NULL,                 -- by its v7 name
  row_id       BIGINT,
  organization BIGINT,
  fleet        BIGINT,
  details      TEXT NOT NULL DEFAULT '{}'     -- JSON: the fields that were written, without secrets
);
CREATE INDEX audit_events_by_organization ON audit_events (organization, id);
CREATE INDEX audit_events_by_actor ON audit_events (actor, id);

-- What balena's model has and ours had not.

ALTER TABLE fleets ADD COLUMN updated_by BIGINT REFERENCES fleets (id) ON DELETE SET NULL;
ALTER TABLE fleets ADD COLUMN support_until BIGINT;
ALTER TABLE fleets ADD COLUMN repository_url TEXT;

ALTER TABLE devices ADD COLUMN is_web_accessible BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE devices ADD COLUMN is_active BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE devices ADD COLUMN local_id TEXT;
ALTER TABLE devices ADD COLUMN operated_by BIGINT REFERENCES releases (id) ON DELETE SET NULL;
ALTER TABLE devices ADD COLUMN managed_by BIGINT REFERENCES releases (id) ON DELETE SET NULL;
ALTER TABLE devices ADD COLUMN support_until BIGINT;
ALTER TABLE devices ADD COLUMN locked_until BIGINT;
ALTER TABLE devices ADD COLUMN download_progress BIGINT;
CREATE INDEX devices_by_operated ON devices (operated_by) WHERE operated_by IS NOT NULL;
CREATE INDEX devices_by_managed ON devices (managed_by) WHERE managed_by IS NOT NULL;

-- Where people say a device is, in degrees.
ALTER TABLE devices ADD COLUMN custom_latitude TEXT;
ALTER TABLE devices ADD COLUMN custom_longitude TEXT;
-- A person has said which release the device follows: a pin that came with its card counts no more.
ALTER TABLE devices ADD COLUMN pin_chosen BOOLEAN NOT NULL DEFAULT FALSE;

-- Made and built by a client, as balena deploy does; of every other release the server is the builder.
ALTER TABLE releases ADD COLUMN deployed BOOLEAN NOT NULL DEFAULT FALSE;
DROP INDEX releases_one_running_per_commit;
CREATE UNIQUE INDEX releases_one_running_per_commit ON releases (fleet, commit_id) WHERE status = 'running' AND NOT deployed;

ALTER TABLE releases ADD COLUMN release_version TEXT;
-- Of a push that names the Dockerfile to use, its path in the source; a server that was restarted goes on with it.
ALTER TABLE releases ADD COLUMN dockerfile_path TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX releases_by_release_version ON releases (fleet, release_version)
  WHERE release_version IS NOT NULL AND status = 'success' AND NOT is_invalidated;

CREATE TABLE service_labels (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  service     BIGINT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
  label_name  TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (service, label_name)
);

CREATE TABLE image_profiles (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at    BIGINT NOT NULL,
  modified_at   BIGINT NOT NULL,
  release_image BIGINT NOT NULL REFERENCES release_images (id) ON DELETE CASCADE,
  profile_name  TEXT NOT NULL,
  UNIQUE (release_image, profile_name)
);

-- The devices of a fleet run the services that a release of on_fleet (as a rule the same one) keeps for a profile.
CREATE TABLE fleet_profiles (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at   BIGINT NOT NULL,
  modified_at  BIGINT NOT NULL,
  fleet        BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  profile_name TEXT NOT NULL,
  on_fleet     BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  UNIQUE (fleet, profile_name, on_fleet)
);
CREATE INDEX fleet_profiles_by_on_fleet ON fleet_profiles (on_fleet);

-- What the builds of a fleet get as build arguments.
CREATE TABLE build_variables (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  fleet       BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  name        TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (fleet, name)
);

CREATE TABLE release_assets (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at   BIGINT NOT NULL,
  modified_at  BIGINT NOT NULL,
  release      BIGINT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
  asset_key    TEXT NOT NULL,
  filename     TEXT,                          -- NULL while nothing is uploaded, and so the rest
  content_type TEXT,
  size         BIGINT,                        -- bytes
  checksum     TEXT,                          -- sha256:<64 hex>
  blob         TEXT,                          -- where the asset room keeps it
  UNIQUE (release, asset_key)
);

CREATE TABLE device_manufacturers (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  slug        TEXT NOT NULL UNIQUE,
  name        TEXT NOT NULL
);

CREATE TABLE device_families (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at   BIGINT NOT NULL,
  modified_at  BIGINT NOT NULL,
  slug         TEXT NOT NULL UNIQUE,
  name         TEXT NOT NULL,
  manufacturer BIGINT REFERENCES device_manufacturers (id) ON DELETE SET NULL
);

ALTER TABLE device_types ADD COLUMN family BIGINT REFERENCES device_families (id) ON DELETE SET NULL;
ALTER TABLE device_types ADD COLUMN logo TEXT;
ALTER TABLE device_types ADD COLUMN contract TEXT;

-- What queries of the resource model go by (resource's plan test).
CREATE INDEX releases_by_commit ON releases (commit_id);
CREATE INDEX fleets_public ON fleets (id) WHERE is_public;
