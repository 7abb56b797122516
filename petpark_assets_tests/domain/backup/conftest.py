"""A home to be backed up, a place for its backups, and servers as production has them. Not here: claims about them."""

import shutil

import psycopg
import pytest

from petpark_assets.domain.backup.snapshot import Engines
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.s3.store import S3Store
from petpark_assets.domain.workflow import ingestion
from petpark_assets_tests import releases
from petpark_assets_tests.servers import new_bucket

SIDE_PX = 16
NAMES = ("dagster", "mlflow")
PACKAGE = "1/{run}/artifacts/package/model.onnx"


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A lake of 20 drawn photos and two broken ones, and a home with two versions of it; no model, which takes time."""
    folder = tmp_path_factory.mktemp("made")
    draw_lake(folder / "lake", num_images=20, num_broken=2)
    home = at(folder / "home")
    for _ in range(2):
        version = ingestion.new_dataset_version(home, str(folder / "lake"), SIDE_PX).dataset_version
        ingestion.split(home, version)
        (folder / "lake/cat/00000.jpg").unlink(missing_ok=True)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of both."""
    shutil.copytree(made, tmp_path / "park")
    releases.move(tmp_path / "park")
    return tmp_path / "park"


@pytest.fixture
def home(folder):
    """The home of that copy."""
    return at(folder / "home")


@pytest.fixture
def place(tmp_path):
    """Where backups go."""
    return LocalStore(tmp_path / "place")


def at(root):
    """A home in a folder."""
    return open_home(root, actor="Kim")


class Servers:
    """Two databases and two buckets, laid out as in the cloud: MLflow's files lie in the place of the store."""

    def __init__(self, postgres, s3_server, cache):
        self.postgres, self.s3, self.cache = postgres, s3_server, cache
        self.store, self.logs = new_bucket(s3_server), new_bucket(s3_server)
        self.names = {name: f"{name}_{self.store.replace('-', '_')}" for name in NAMES}
        self.urls = {name: postgres.add_database(made, f"pw/{name}+") for name, made in self.names.items()}

    def place(self, name):
        """A part of a bucket."""
        return S3Store(f"s3://{name}", self.s3.access(), self.cache)

    def engines(self):
        """As `petpark backup` and `petpark restore` are told of them."""
        artifacts, logs = self.place(f"{self.store}/park/mlflow"), self.place(f"{self.logs}/dagster")
        return Engines(postgresql=self.urls, artifacts=artifacts, logs=logs)

    def open(self, root):
        """A home with its store in the bucket."""
        return open_home(root, actor="Kim", store_uri=f"s3://{self.store}/park", s3=self.s3.access)

    def run(self, name, *statements):
        """Execute statements in a database; the rows of the last one."""
        with psycopg.connect(self.urls[name], autocommit=True) as connection:
            for statement in statements:
                done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def objects(self):
        """Everything in both buckets, but for the tables of photos, whose log differs."""
        stores = {bucket: self.place(bucket) for bucket in (self.store, self.logs)}
        keys = [(bucket, key) for bucket, store in stores.items() for key in store.list_keys("")]
        return {key: stores[bucket].read(key) for bucket, key in keys if ".lance/" not in key}

    def empty_database(self, name):
        """Drop it and make it again."""
        made = self.names[name]
        self.postgres.run(f"DROP DATABASE {made} WITH (FORCE)", f"CREATE DATABASE {made} OWNER {made}")

    def empty_buckets(self):
        """Delete every object."""
        for bucket in (self.store, self.logs):
            for key in self.place(bucket).list_keys(""):
                self.s3.client().delete_object(Bucket=bucket, Key=key)


@pytest.fixture
def servers(postgres, s3_server, tmp_path):
    """Real ones, with something in each."""
    made = Servers(postgres, s3_server, tmp_path / "cache")
    made.run("dagster", "CREATE TABLE runs (id text)", "INSERT INTO runs VALUES ('one'), ('two')")
    made.run("mlflow", "CREATE TABLE versions (number int, run text)", "INSERT INTO versions VALUES (1, 'first')")
    made.engines().artifacts.write_new(PACKAGE.format(run="first"), b"model")
    for name in ("step.err", "going-on.err.partial"):
        made.engines().logs.write_new(f"storage/run/compute_logs/{name}", b"printed")
    return made
