-- The ledger's database, its role and its table, where there are none yet. For psql (15 or later), as whoever may make
-- databases and roles, any number of times; the role's password comes from the environment:
--   PETPARK_PLATFORM_PASSWORD=... psql --file ledger.sql postgresql://…/postgres
-- A database of its own: Dagster's user must not reach it, and Dagster's can be upgraded, emptied or restored to an
-- earlier day without the history of what happened. Who logs in as `ledger` reads and appends, and cannot do more; the
-- table's owner is whoever runs this.
\set ON_ERROR_STOP 1
\getenv password PETPARK_PLATFORM_PASSWORD
SELECT 'CREATE DATABASE ledger ENCODING ''UTF8'' TEMPLATE template0'
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'ledger') \gexec
SELECT 'CREATE ROLE ledger' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger') \gexec
ALTER ROLE ledger LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'password';
REVOKE ALL ON DATABASE ledger FROM PUBLIC;
GRANT CONNECT ON DATABASE ledger TO ledger;

\connect ledger
CREATE SCHEMA IF NOT EXISTS ledger;
CREATE TABLE IF NOT EXISTS ledger.events (
  number bigint PRIMARY KEY,
  line text NOT NULL
);
CREATE OR REPLACE VIEW ledger.schema_version AS SELECT 1 AS version;

CREATE OR REPLACE FUNCTION ledger.keep() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    RAISE EXCEPTION 'the ledger is append-only: no % of what is in it', TG_OP;
  ELSIF NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM ledger.events) THEN
    RAISE EXCEPTION 'event % does not follow the last one of the ledger', NEW.number;
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER one_after_another BEFORE INSERT ON ledger.events
  FOR EACH ROW EXECUTE FUNCTION ledger.keep();
CREATE OR REPLACE TRIGGER nothing_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.events
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.keep();
ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER one_after_another, ENABLE ALWAYS TRIGGER nothing_changes;

GRANT USAGE ON SCHEMA ledger TO ledger;
GRANT SELECT, INSERT ON ledger.events TO ledger;
GRANT SELECT ON ledger.schema_version TO ledger;
