-- The databases of Dagster and MLflow, where there are none yet. Two, since each keeps the version of its schema in a
-- table of the same name. For psql, any number of times:  psql --file databases.sql postgresql://…/petpark
SELECT 'CREATE DATABASE dagster' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'dagster') \gexec
SELECT 'CREATE DATABASE mlflow' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'mlflow') \gexec
