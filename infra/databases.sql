-- The databases of Dagster and MLflow, where there are none yet, each with a role of its name that owns it and enters no
-- other. Two, since each keeps the version of its schema in a table of the same name. For psql (15 or later), as whoever
-- may make databases and roles, any number of times; the roles' password comes from the environment:
--   PETPARK_PLATFORM_PASSWORD=... psql --file databases.sql --file ledger.sql postgresql://…/petpark
\set ON_ERROR_STOP 1
\getenv password PETPARK_PLATFORM_PASSWORD
CREATE TEMPORARY TABLE wanted AS SELECT unnest(ARRAY['dagster', 'mlflow']) AS name;
SELECT format('CREATE ROLE %I', name) FROM wanted WHERE name NOT IN (SELECT rolname FROM pg_roles) \gexec
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', name, :'password') FROM wanted \gexec
SELECT format('GRANT %I TO CURRENT_USER', name) FROM wanted \gexec
SELECT format('CREATE DATABASE %I OWNER %I', name, name) FROM wanted
  WHERE name NOT IN (SELECT datname FROM pg_database) \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', name) FROM wanted \gexec
DROP TABLE wanted;
