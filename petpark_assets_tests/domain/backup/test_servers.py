"""Claims about backups of what servers keep: PostgreSQL's databases, and files of MLflow and of runs in buckets."""

import dataclasses
import shutil
import threading

import pytest

from petpark_assets.domain.audit import proof
from petpark_assets.domain.backup import databases, making, places, restoring
from petpark_assets.domain.backup.snapshot import Engines
from petpark_assets.domain.errors import Conflict, InvalidInput
from petpark_assets.domain.workflow import ingestion, verification
from petpark_assets.resources.environments import Environment
from petpark_assets.verbs import backup as verbs
from petpark_assets_tests.domain.backup.conftest import NAMES, PACKAGE, SIDE_PX


@pytest.fixture
def home(folder, servers):
    """A home with its store in a bucket, and a version."""
    made = servers.open(folder / "on S3")
    version = ingestion.new_dataset_version(made, str(folder / "lake"), SIDE_PX).dataset_version
    ingestion.split(made, version)
    return made


@pytest.mark.debian
def test_what_servers_keep_comes_back_after_all_of_it_is_deleted(servers, home, folder, place):
    """Databases dropped, buckets emptied, the home removed: then the same as before, and the next version is made."""
    making.make(home, place, servers.engines())
    before, events = servers.objects(), list(home.ledger.events())
    again = making.make(home, place, servers.engines())
    assert again["num_new"] <= len(("ledger", "dagster", "mlflow"))
    for name in NAMES:
        servers.empty_database(name)
    servers.empty_buckets()
    shutil.rmtree(home.root)
    restoring.restore(place, home.root, servers.open, servers.engines())
    assert servers.objects() == before
    assert servers.run("dagster", "SELECT id FROM runs ORDER BY id") == [("one",), ("two",)]
    assert servers.run("mlflow", "SELECT * FROM versions") == [(1, "first")]
    back = servers.open(home.root)
    assert list(back.ledger.events())[: len(events)] == events
    assert proof.verify(back)["offending"] == verification.verify_versions(back)["offending"] == []
    (folder / "lake/dog/00001.jpg").unlink()
    assert ingestion.new_dataset_version(back, str(folder / "lake"), SIDE_PX).dataset_version == "v0002"


@pytest.mark.debian
def test_a_restore_that_a_database_refuses_is_in_no_ledger(servers, home, place, monkeypatch):
    """A ledger in a database keeps every event for ever: it would tell of restores that never were."""
    making.make(home, place, servers.engines())
    before = list(home.ledger.events())
    for name in NAMES:
        servers.empty_database(name)
    servers.empty_buckets()

    def refuse(*_):
        raise InvalidInput("permission denied for database dagster")

    def open_beside(root):
        return dataclasses.replace(servers.open(root), ledger=home.ledger)

    monkeypatch.setattr(databases, "restore_postgresql", refuse)
    with pytest.raises(InvalidInput, match="permission denied"):
        restoring.restore(place, home.root.with_name("again"), open_beside, servers.engines())
    assert list(home.ledger.events()) == before


@pytest.mark.debian
def test_nothing_is_restored_over_anything(servers, home, place):
    """Each server with something in it ends the restore before it begins; what an interrupted one left does not."""
    making.make(home, place, servers.engines())
    root = home.root.with_name("again")

    def refused(words):
        with pytest.raises(Conflict, match=words):
            restoring.restore(place, root, servers.open, servers.engines())
        assert not list(root.parent.glob("*again*"))

    for name in NAMES:
        refused(rf"the database 127\.0\.0\.1:\d+/{servers.names[name]} is not empty: DROP DATABASE")
        servers.empty_database(name)
    refused(f"s3://{servers.store}/park has .*, which is not in the backup: empty it")
    servers.empty_buckets()
    assert restoring.restore(place, root, servers.open, servers.engines())["number"] == 1
    for name in NAMES:
        servers.empty_database(name)
    root.rename(root.with_name("there"))
    for store, key in ((servers.engines().logs, "storage/x.err"), (servers.engines().artifacts, "1/x")):
        store.write_new(key, b"another's")
        refused(f"{store.uri} has {key}, which is not in the backup: empty it")
        store.delete(key)
    with pytest.raises(
        InvalidInput, match="the backup has what steps printed, in a bucket of its own: set this home up"
    ):
        restoring.restore(place, root, servers.open, dataclasses.replace(servers.engines(), logs=None))
    with pytest.raises(
        InvalidInput, match=r"has these databases of PostgreSQL: dagster, mlflow; this home .* with mlflow"
    ):
        restoring.restore(place, root, servers.open, Engines(postgresql={"mlflow": servers.urls["mlflow"]}))
    for inside in (servers.engines().logs, servers.engines().artifacts):
        with pytest.raises(InvalidInput, match="choose a place outside"):
            making.make(home, servers.place(f"{inside.uri.removeprefix('s3://')}/backups"), servers.engines())


@pytest.mark.debian
def test_a_registered_version_in_a_backup_has_its_files(servers, home, place):
    """The registry grows while backups are made: of files and the version they are of, the files are there first."""
    ending = threading.Event()

    def register():
        number = 1
        while not ending.is_set():
            number += 1
            servers.engines().artifacts.write_new(PACKAGE.format(run=f"run{number}"), b"%d" % number)
            servers.run("mlflow", f"INSERT INTO versions VALUES ({number}, 'run{number}')")  # noqa: S608 - our words

    thread = threading.Thread(target=register)
    thread.start()
    try:
        for _ in range(4):
            making.make(home, place, servers.engines())
    finally:
        ending.set()
        thread.join()
    seen = []
    for backup in places.list_backups(place):
        listed = places.read_files(place, backup)
        servers.empty_database("mlflow")
        dump = place.read(places.object_key("postgresql/mlflow.dump", listed["postgresql/mlflow.dump"].sha256))
        restoring.databases.restore_postgresql(servers.urls["mlflow"], dump)
        runs = [run for (run,) in servers.run("mlflow", "SELECT run FROM versions")]
        assert {f"artifacts/{PACKAGE.format(run=run)}" for run in runs} <= listed.keys()
        seen.append(len(runs))
    assert seen[0] < seen[-1], "nothing was registered meanwhile, so it proves nothing"


def test_the_servers_are_those_of_the_profile(tmp_path, monkeypatch):
    """What is not asked for is not copied: Dagster's database in production, MLflow's wherever it has a server."""
    told = {
        "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:hunter2@db/mlflow", "PETPARK_LOGS_BUCKET": "park-logs",
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-central-1",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    local = Environment(name="local", home=tmp_path, actor="Kim", photos=None, ray_address=None)
    assert verbs._engines(local) == Engines()
    served = dataclasses.replace(local, registry="http://mlflow:5000")
    monkeypatch.delenv("MLFLOW_ARTIFACTS_DESTINATION", raising=False)
    with pytest.raises(InvalidInput, match="MLflow's server is http://mlflow:5000, and these are not set: MLFLOW_ART"):
        verbs._engines(served)
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "gs://park/mlflow")
    with pytest.raises(InvalidInput, match="MLFLOW_ARTIFACTS_DESTINATION must be s3://bucket/prefix, or an absolute"):
        verbs._engines(served)
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://park/store/mlflow/")
    whole = verbs._engines(dataclasses.replace(served, name="production", database="postgresql://d:hunter2@db/dagster"))
    assert (whole.artifacts.uri, whole.logs.uri) == ("s3://park/store/mlflow", "s3://park-logs/dagster")
    assert sorted(whole.postgresql) == ["dagster", "mlflow"]
    assert "hunter2" not in repr(whole)
    assert verbs._engines(served).logs is None
