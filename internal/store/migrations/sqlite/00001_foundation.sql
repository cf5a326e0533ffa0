-- +goose Up

-- Times are microseconds since 1970, UTC. Booleans are BOOLEAN, 0 or 1. JSON is TEXT. Every table that the public
-- resource model shows has id, created_at and modified_at.

CREATE TABLE actors (
  id   INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('user', 'device', 'application'))
);

CREATE TABLE users (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at    BIGINT NOT NULL,
  modified_at   BIGINT NOT NULL,
  actor         BIGINT NOT NULL UNIQUE REFERENCES actors (id),
  username      TEXT NOT NULL UNIQUE,
  email         TEXT UNIQUE,
  password_hash TEXT NOT NULL DEFAULT '',  -- argon2id in PHC form; '' lets nobody in by password
  jwt_secret    TEXT NOT NULL              -- changing it ends every session of the user
);

CREATE TABLE organizations (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  handle      TEXT NOT NULL UNIQUE,
  name        TEXT NOT NULL
);

CREATE TABLE organization_memberships (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at   BIGINT NOT NULL,
  modified_at  BIGINT NOT NULL,
  user_id      BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  organization BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  UNIQUE (user_id, organization)
);
CREATE INDEX organization_memberships_by_organization ON organization_memberships (organization);

CREATE TABLE api_keys (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  actor       BIGINT NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
  key_hash    TEXT NOT NULL UNIQUE,         -- hex SHA-256; the key itself is shown once and never kept
  role        TEXT NOT NULL CHECK (role IN ('provisioning-api-key', 'device-api-key', 'user-api-key', 'named-user-api-key')),
  name        TEXT,
  description TEXT,
  expiry_date BIGINT
);
CREATE INDEX api_keys_by_actor ON api_keys (actor);

CREATE TABLE ssh_keys (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  user_id     BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  title       TEXT NOT NULL,
  public_key  TEXT NOT NULL,                -- authorized_keys form, without options
  fingerprint TEXT NOT NULL UNIQUE          -- SHA256:…, as ssh-keygen -l prints it
);
CREATE INDEX ssh_keys_by_user ON ssh_keys (user_id);

CREATE TABLE cpu_architectures (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  slug        TEXT NOT NULL UNIQUE
);

CREATE TABLE device_types (
  id               INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at       BIGINT NOT NULL,
  modified_at      BIGINT NOT NULL,
  slug             TEXT NOT NULL UNIQUE,
  name             TEXT NOT NULL,
  cpu_architecture BIGINT NOT NULL REFERENCES cpu_architectures (id)
);
CREATE INDEX device_types_by_architecture ON device_types (cpu_architecture);

CREATE TABLE device_type_aliases (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  device_type BIGINT NOT NULL REFERENCES device_types (id) ON DELETE CASCADE,
  alias       TEXT NOT NULL UNIQUE          -- every type has at least its own slug
);
CREATE INDEX device_type_aliases_by_type ON device_type_aliases (device_type);

CREATE TABLE application_types (
  id                      INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at              BIGINT NOT NULL,
  modified_at             BIGINT NOT NULL,
  slug                    TEXT NOT NULL UNIQUE,
  name                    TEXT NOT NULL,
  supports_multicontainer BOOLEAN NOT NULL DEFAULT TRUE
);

CREATE TABLE fleets (
  id                INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at        BIGINT NOT NULL,
  modified_at       BIGINT NOT NULL,
  actor             BIGINT NOT NULL UNIQUE REFERENCES actors (id),
  organization      BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  name              TEXT NOT NULL,
  slug              TEXT NOT NULL UNIQUE,   -- lower(handle || '/' || name)
  uuid              TEXT NOT NULL UNIQUE,
  class             TEXT NOT NULL DEFAULT 'fleet' CHECK (class IN ('fleet', 'block', 'app')),
  device_type       BIGINT NOT NULL REFERENCES device_types (id),
  application_type  BIGINT NOT NULL REFERENCES application_types (id),
  track_latest      BOOLEAN NOT NULL DEFAULT TRUE,
  target_release    BIGINT REFERENCES releases (id) ON DELETE SET NULL,
  is_host           BOOLEAN NOT NULL DEFAULT FALSE,
  is_archived       BOOLEAN NOT NULL DEFAULT FALSE,
  is_public         BOOLEAN NOT NULL DEFAULT FALSE,
  root_commit       TEXT NOT NULL DEFAULT '',  -- first commit of the repository's history
  UNIQUE (organization, name)
);
CREATE INDEX fleets_by_target ON fleets (target_release);
CREATE INDEX fleets_by_device_type ON fleets (device_type);

CREATE TABLE devices (
  id                      INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at              BIGINT NOT NULL,
  modified_at             BIGINT NOT NULL,
  actor                   BIGINT NOT NULL UNIQUE REFERENCES actors (id),
  fleet                   BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  device_type             BIGINT NOT NULL REFERENCES device_types (id),
  uuid                    TEXT NOT NULL UNIQUE,
  name                    TEXT NOT NULL,
  note                    TEXT,
  pinned_release          BIGINT REFERENCES releases (id) ON DELETE SET NULL,
  running_release         BIGINT REFERENCES releases (id) ON DELETE SET NULL,
  last_seen               BIGINT,             -- last target request or report; written in batches
  poll_interval_ms        BIGINT NOT NULL DEFAULT 60000,
  status                  TEXT,
  update_status           TEXT,
  last_update_status_event BIGINT,
  os_version              TEXT,
  os_variant              TEXT,
  supervisor_version      TEXT,
  ip_address              TEXT,
  public_address          TEXT,
  mac_address             TEXT,
  api_port                BIGINT,
  api_secret              TEXT,
  provisioning_state      TEXT,
  provisioning_progress   BIGINT,
  memory_usage            BIGINT,
  memory_total            BIGINT,
  storage_block_device    TEXT,
  storage_usage           BIGINT,
  storage_total           BIGINT,
  cpu_usage               BIGINT,
  cpu_temp                BIGINT,
  cpu_id                  TEXT,
  is_undervolted          BOOLEAN NOT NULL DEFAULT FALSE,
  UNIQUE (fleet, name)
);
CREATE INDEX devices_by_pin ON devices (pinned_release);
CREATE INDEX devices_by_running ON devices (running_release);
CREATE INDEX devices_by_device_type ON devices (device_type);

CREATE TABLE services (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  fleet       BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  name        TEXT NOT NULL,
  UNIQUE (fleet, name)
);

CREATE TABLE releases (
  id                 INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at         BIGINT NOT NULL,
  modified_at        BIGINT NOT NULL,
  fleet              BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  commit_id          TEXT NOT NULL,
  git_commit         TEXT NOT NULL DEFAULT '',  -- all 40 digits, when it came by git
  git_ref            TEXT NOT NULL DEFAULT '',
  root_commit        TEXT NOT NULL DEFAULT '',  -- becomes the fleet's when the release succeeds, unless ''
  created_by         BIGINT REFERENCES users (id) ON DELETE SET NULL,
  status             TEXT NOT NULL CHECK (status IN ('running', 'success', 'failed', 'error', 'cancelled', 'interrupted')),
  source             TEXT NOT NULL DEFAULT 'cloud' CHECK (source IN ('cloud', 'local')),
  composition        TEXT NOT NULL DEFAULT '{}',
  contract           TEXT,
  build_log          TEXT,
  error_message      TEXT,
  draft              BOOLEAN NOT NULL DEFAULT FALSE,  -- wanted as a draft; revision says what it is
  nocache            BOOLEAN NOT NULL DEFAULT FALSE,
  is_invalidated     BOOLEAN NOT NULL DEFAULT FALSE,
  invalidation_reason TEXT,
  is_passing_tests   BOOLEAN NOT NULL DEFAULT TRUE,
  start_timestamp    BIGINT NOT NULL,
  end_timestamp      BIGINT,
  update_timestamp   BIGINT NOT NULL,
  finalized_at       BIGINT,
  revision           BIGINT,                    -- NULL while a draft
  semver_major       BIGINT NOT NULL DEFAULT 0,
  semver_minor       BIGINT NOT NULL DEFAULT 0,
  semver_patch       BIGINT NOT NULL DEFAULT 0,
  semver_prerelease  TEXT NOT NULL DEFAULT '',
  semver_build       TEXT NOT NULL DEFAULT '',
  variant            TEXT NOT NULL DEFAULT '',
  phase              TEXT,
  known_issue_list   TEXT,
  note               TEXT
);
CREATE UNIQUE INDEX releases_one_success_per_commit ON releases (fleet, commit_id) WHERE status = 'success';
CREATE UNIQUE INDEX releases_one_running_per_commit ON releases (fleet, commit_id) WHERE status = 'running' AND source = 'cloud';
CREATE UNIQUE INDEX releases_by_version ON releases (fleet, semver_major, semver_minor, semver_patch, semver_prerelease, variant, revision) WHERE revision IS NOT NULL;
CREATE INDEX releases_by_fleet ON releases (fleet, id);
CREATE INDEX releases_by_status ON releases (status) WHERE status = 'running';

CREATE TABLE images (
  id               INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at       BIGINT NOT NULL,
  modified_at      BIGINT NOT NULL,
  service          BIGINT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
  location         TEXT NOT NULL UNIQUE,     -- HOST/v2/<32 hex>
  repository       TEXT NOT NULL UNIQUE,     -- v2/<32 hex>
  content_hash     TEXT,                     -- sha256:<64 hex> of the manifest
  image_size       BIGINT,
  status           TEXT NOT NULL CHECK (status IN ('running', 'success', 'failed', 'error', 'cancelled', 'interrupted')),
  project_type     TEXT,
  dockerfile       TEXT,
  error_message    TEXT,
  build_log        TEXT,
  contract         TEXT,
  start_timestamp  BIGINT NOT NULL,
  end_timestamp    BIGINT,
  push_timestamp   BIGINT
);
CREATE INDEX images_by_service ON images (service);

CREATE TABLE release_images (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  image       BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
  release     BIGINT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
  UNIQUE (image, release)
);
CREATE INDEX release_images_by_release ON release_images (release);

CREATE TABLE image_labels (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at    BIGINT NOT NULL,
  modified_at   BIGINT NOT NULL,
  release_image BIGINT NOT NULL REFERENCES release_images (id) ON DELETE CASCADE,
  label_name    TEXT NOT NULL,
  value         TEXT NOT NULL,
  UNIQUE (release_image, label_name)
);

CREATE TABLE image_variables (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at    BIGINT NOT NULL,
  modified_at   BIGINT NOT NULL,
  release_image BIGINT NOT NULL REFERENCES release_images (id) ON DELETE CASCADE,
  name          TEXT NOT NULL,
  value         TEXT NOT NULL,
  UNIQUE (release_image, name)
);

CREATE TABLE fleet_variables (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  fleet       BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  name        TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (fleet, name)
);

CREATE TABLE fleet_config_variables (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  fleet       BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  name        TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (fleet, name)
);

CREATE TABLE service_variables (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  service     BIGINT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
  name        TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (service, name)
);

CREATE TABLE device_variables (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  device      BIGINT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
  name        TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (device, name)
);

CREATE TABLE device_config_variables (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  device      BIGINT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
  name        TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (device, name)
);

CREATE TABLE service_installs (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  device      BIGINT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
  service     BIGINT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
  UNIQUE (device, service)
);
CREATE INDEX service_installs_by_service ON service_installs (service);

CREATE TABLE device_service_variables (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at      BIGINT NOT NULL,
  modified_at     BIGINT NOT NULL,
  service_install BIGINT NOT NULL REFERENCES service_installs (id) ON DELETE CASCADE,
  name            TEXT NOT NULL,
  value           TEXT NOT NULL,
  UNIQUE (service_install, name)
);

CREATE TABLE image_installs (
  id                INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at        BIGINT NOT NULL,
  modified_at       BIGINT NOT NULL,
  device            BIGINT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
  image             BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
  release           BIGINT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
  install_date      BIGINT NOT NULL,
  status            TEXT NOT NULL,
  download_progress BIGINT,
  UNIQUE (device, image)
);
CREATE INDEX image_installs_by_image ON image_installs (image);
CREATE INDEX image_installs_by_release ON image_installs (release);

CREATE TABLE fleet_tags (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  fleet       BIGINT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
  tag_key     TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (fleet, tag_key)
);

CREATE TABLE device_tags (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  device      BIGINT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
  tag_key     TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (device, tag_key)
);

CREATE TABLE release_tags (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at  BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  release     BIGINT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
  tag_key     TEXT NOT NULL,
  value       TEXT NOT NULL,
  UNIQUE (release, tag_key)
);

-- Facts of this installation that are made once: none of them is a secret.
CREATE TABLE settings (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
