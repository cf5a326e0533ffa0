-- +goose Up

-- An actor ends with its user, device or fleet, however the row went, and its API keys end with it.

-- +goose StatementBegin
CREATE FUNCTION end_actor() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM actors WHERE id = OLD.actor;
  RETURN NULL;
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER users_end_actor AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION end_actor();
CREATE TRIGGER devices_end_actor AFTER DELETE ON devices FOR EACH ROW EXECUTE FUNCTION end_actor();
CREATE TRIGGER fleets_end_actor AFTER DELETE ON fleets FOR EACH ROW EXECUTE FUNCTION end_actor();
