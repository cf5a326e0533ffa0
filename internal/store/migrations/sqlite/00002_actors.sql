-- +goose Up

-- An actor ends with its user, device or fleet, however the row went, and its API keys end with it.

-- +goose StatementBegin
CREATE TRIGGER users_end_actor AFTER DELETE ON users BEGIN
  DELETE FROM actors WHERE id = OLD.actor;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER devices_end_actor AFTER DELETE ON devices BEGIN
  DELETE FROM actors WHERE id = OLD.actor;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER fleets_end_actor AFTER DELETE ON fleets BEGIN
  DELETE FROM actors WHERE id = OLD.actor;
END;
-- +goose StatementEnd
