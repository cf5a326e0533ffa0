-- +goose Up

-- The differences between two images that somebody may want, made or not. A row is there before anything is made, once
-- for each pair of images and format, however many devices are to use it.
CREATE TABLE deltas (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at     BIGINT NOT NULL,
  modified_at    BIGINT NOT NULL,
  source         BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
  target         BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
  format         TEXT NOT NULL,               -- dunlin, librsync
  status         TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'ready', 'useless', 'failed', 'dropped')),
  reason         TEXT,                        -- of useless, failed and dropped; of one that waits again, what became of the last attempt
  by_hand        BOOLEAN NOT NULL DEFAULT FALSE,  -- a person asked for it: it is made whether or not a device needs it
  asked_at       BIGINT,                      -- when somebody last asked for it while it was not there
  asked_by       BIGINT REFERENCES devices (id) ON DELETE SET NULL,  -- the first device that did, if the row is of its asking
  attempts       BIGINT NOT NULL DEFAULT 0,
  not_before     BIGINT NOT NULL DEFAULT 0,   -- when it may be tried again
  leased_until   BIGINT,                      -- while it runs: after that its maker is thought dead
  started_at     BIGINT,                      -- of the last attempt
  ended_at       BIGINT,
  size           BIGINT,                      -- bytes that a device fetches
  replaces       BIGINT,                      -- bytes of the layers that it would fetch otherwise
  manifest       TEXT,                        -- sha256:… of the manifest in the target's repository
  blob           TEXT,                        -- sha256:… of it
  name           TEXT,                        -- of the artifact below the target's location: @sha256:… or :tag
  from_config    TEXT,                        -- sha256:… of the images' configurations
  to_config      TEXT,
  used           BIGINT NOT NULL DEFAULT 0,   -- how many times it was fetched to its end
  last_used_at   BIGINT,                      -- when it was last asked for or fetched
  UNIQUE (source, target, format)
);
CREATE INDEX deltas_by_target ON deltas (target);
CREATE INDEX deltas_by_status ON deltas (status, not_before);
CREATE INDEX deltas_by_asker ON deltas (asked_by) WHERE asked_by IS NOT NULL;
