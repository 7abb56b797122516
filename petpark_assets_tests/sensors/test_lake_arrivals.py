"""Claims about the sensor on the lake: no photo is missed or counted twice, whatever happens."""

import os
import random
import shutil
import uuid

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from petpark_assets.definitions import build_defs
from petpark_assets.domain import files, splits
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue, corrections, ingest, sources
from petpark_assets.domain.records import RawImages, RegisteredModel
from petpark_assets.domain.workflow import arrivals, ingestion, reconciliation
from petpark_assets.resources.environments import Environment
from petpark_assets.resources.lake_watch import LakeWatch
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.sensors.lake_arrivals import MAX_TRIES, REQUEST_TAG, SETTLE_S, lake_arrivals, tick
from petpark_assets_tests.domain.lake.test_ingest import make_lake, photo, put

SIDE = 16
TINY = {
    "recipe": "demo",
    "search": {"num_trials": 1, "trial_epochs": 1},
    "hyperparameters": {"epochs": 1, "width": 4},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
}


class Park:
    """A lake, a home, a Dagster instance, and a clock that the test winds."""

    def __init__(self, root, *, num_photos=3, wait_h=6.0):
        self.lake, self.root, self.now, self.cursor = root / "lake", root / "home", 1e9, None
        artifacts = root / "dagster"
        artifacts.mkdir()
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(artifacts))
        environment = Environment(name="ci", home=self.root, actor="tester", photos=None, ray_address=None)
        self.watch = LakeWatch(lake=str(self.lake), num_photos=num_photos, wait_h=wait_h)
        self.definitions = build_defs(environment, {"lake_watch": self.watch, "recipe": RunRecipe(**TINY)})
        self.home = open_home(self.root, actor="tester")

    @property
    def versions(self):
        """The dataset versions there are."""
        return catalogue.list_versions(self.home.store)

    def tick(self, after_s=SETTLE_S):
        """One tick, so long after the one before: what it asks for, or why it asks for nothing."""
        self.now += after_s
        result = tick(self.instance, self.home, self.watch, self.cursor, self.now)
        self.cursor = result.cursor
        return result.run_requests[0] if result.run_requests else result.skip_reason.skip_message

    def ask(self):
        """What is asked for once the lake has settled."""
        self.tick()
        return self.tick()

    def run(self, request):
        """Run what was asked for, as the daemon would."""
        if request.partition_key:
            self.instance.add_dynamic_partitions("dataset_version", [request.partition_key])
        job = self.definitions.resolve_job_def(request.job_name)
        tags = {**request.tags, "dagster/run_key": request.run_key}
        return job.execute_in_process(
            instance=self.instance, run_config=request.run_config, tags=tags, partition_key=request.partition_key,
            raise_on_error=False,
        )  # fmt: skip

    def pretend_run(self, request, status):
        """A run for a request that is in some state."""
        tags = {**request.tags, "dagster/run_key": request.run_key}
        create_run_for_test(self.instance, job_name=request.job_name, tags=tags, status=status)

    def ingest(self):
        """A version of the lake as it is, that counts as built."""
        version = ingestion.new_dataset_version(self.home, str(self.lake), SIDE).dataset_version
        pretend_built(self.home, version)
        return version


def pretend_built(home, version):
    """As if a model of the version were registered."""
    if not arrivals.is_built(home, version):
        model = RegisteredModel(
            dataset_version=version, attempt="a" * 16, onnx_package="b" * 64, evaluation_report="c" * 64,
            model_name="pets", model_version=1,
        )  # fmt: skip
        files.write_record(home.store, model, {})


def is_request(answer):
    """Whether a tick asked for anything."""
    return isinstance(answer, dg.RunRequest)


def asks_for_version(answer):
    """Whether a tick asked for a look at the lake."""
    return is_request(answer) and answer.job_name == "new_dataset_version"


@pytest.fixture
def park(tmp_path):
    """Twenty photos in the lake, and nothing else yet."""
    park = Park(tmp_path)
    make_lake(park.lake)
    return park


@pytest.fixture
def known(park, monkeypatch):
    """The same with v0001 of it; files count as settled at once."""
    monkeypatch.setattr(sources, "SETTLED_AFTER_S", 0.0)
    park.ingest()
    return park


def counts(park):
    """How many photos are new, changed and removed."""
    look = arrivals.look(park.home, str(park.lake))
    return look.num_new, look.num_changed, look.num_removed


def test_nobody_is_surprised(park):
    """A sensor trains models: it does so when somebody has turned it on, and knows of a lake."""
    assert lake_arrivals.default_status == dg.DefaultSensorStatus.STOPPED
    park.watch = LakeWatch()
    assert "set PETPARK_LAKE" in park.tick()


def test_first_version_is_made_and_its_build_asked_for_with_its_partition(park):
    """A new lake needs no person after the first click; a partition without its run would stay empty for ever."""
    assert "20 photos new" in park.tick()
    request = park.tick()
    assert park.run(request).success
    assert park.versions == ["v0001"]
    result = tick(park.instance, park.home, park.watch, park.cursor, park.now)
    (build,) = result.run_requests
    assert (build.job_name, build.partition_key) == ("build", "v0001")
    assert [added.partition_keys for added in result.dynamic_partitions_requests] == [["v0001"]]


def test_unchanged_lake_asks_for_nothing(known):
    """Most ticks of a year; nothing is read in them."""
    assert "has the photos of v0001" in known.ask()
    for lost in (None, "", "1699", '{"of": "another release"}'):
        known.cursor = lost
        assert "has the photos of v0001" in known.tick()


def test_few_photos_wait_and_are_not_forgotten(known):
    """Two photos are no reason to train for half an hour; after the wait they are."""
    put(known.lake, "cat/new1.png", photo(101))
    put(known.lake, "dog/new2.png", photo(102))
    assert "made at 3, or in 6.0 hours" in known.ask()
    assert "or in 3.0 hours" in known.tick(3 * 3600 - SETTLE_S)
    assert asks_for_version(known.tick(3 * 3600 + 1))


def test_every_kind_of_change_counts_once(known):
    """New, rewritten in place with the same size and time, removed; and nothing that is none of these."""
    put(known.lake, "cat/new.png", photo(101))
    path = known.lake / "dog/0.png"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (known.lake / "cat/1.png").unlink()
    (known.lake / "cat/3.png").touch()  # the same bytes
    put(known.lake, "README.txt", b"no photo")
    put(known.lake, "birds/1.png", photo(103))  # unlabelled: nothing to train on
    assert counts(known) == (1, 1, 1)
    assert asks_for_version(known.ask())
    known.ingest()
    assert counts(known) == (0, 0, 0)


def test_relabelled_photo_is_a_change(known):
    """A person's correction makes the next version although no file changed."""
    sha256 = files.sha256(photo(0))
    correction = corrections.Correction(sha256=sha256, label="cat", by="Ann", because="ears")
    corrections.correct(known.home.store, correction, {})
    assert counts(known) == (0, 1, 0)
    known.ingest()
    assert counts(known) == (0, 0, 0)


def test_photo_that_was_too_young_when_read_is_not_counted_again(park):
    """Its fingerprint proves nothing, so its bytes are read; counting it would make a version that has nothing new."""
    park.ingest()  # all files are younger than 2 s
    assert counts(park) == (0, 0, 0)


def test_unreadable_objects_are_as_they_were(known):
    """A link that leads nowhere and a damaged photo are in the manifest: they do not arrive with every tick."""
    (known.lake / "cat/broken.png").symlink_to("nowhere.png")
    (known.lake / "link.txt").symlink_to("nowhere.txt")
    put(known.lake, "dog/damaged.png", photo(1)[:50])
    known.ingest()
    assert counts(known) == (0, 0, 0)


def test_lake_that_is_being_written_is_waited_for(known):
    """A half-copied photo would be set aside as truncated, and train nobody."""
    for number in range(4):
        put(known.lake, f"cat/copied{number}.png", photo(200 + number))
        assert "look the same twice" in known.tick() or number < 2
    assert asks_for_version(known.tick())


def test_settle_time_is_ours_and_not_the_cameras(known):
    """Files dated to the next year or to 1980 settle like all others; a clock set back only starts the time anew."""
    for number, date in enumerate((0, 315532800, 4e9)):
        os.utime(put(known.lake, f"cat/odd{number}.png", photo(200 + number)), (date, date))
    known.tick()
    assert "look the same twice" in known.tick(after_s=-7200)
    assert asks_for_version(known.tick())


def test_lake_that_never_rests_is_looked_at_after_the_wait(known):
    """A camera that writes for ever must not keep its photos from being used."""
    for number in range(8):
        put(known.lake, f"cat/{number + 100}.png", photo(200 + number))
        answer = known.tick(3600)
    assert asks_for_version(answer)


@pytest.mark.parametrize("status", ["STARTING", "STARTED", "CANCELING"])
def test_open_run_is_not_asked_for_twice(known, status):
    """Also one that a person launched: two would do the same work."""
    shutil.rmtree(known.lake / "cat")
    make_lake(known.lake, 40)
    request = known.ask()
    known.pretend_run(request, dg.DagsterRunStatus[status])
    assert "new_dataset_version is " in known.tick()


def test_run_that_died_is_asked_for_again_and_not_for_ever(known):
    """Dagster takes a run key once for all; a run that was killed would never be made good."""
    make_lake(known.lake, 40)
    keys = []
    for _ in range(MAX_TRIES):
        request = known.ask()
        keys.append(request.run_key)
        known.pretend_run(request, dg.DagsterRunStatus.FAILURE)
    assert len(set(keys)) == MAX_TRIES
    assert "3 runs ended" in known.ask()
    put(known.lake, "cat/one_more.png", photo(999))
    assert asks_for_version(known.ask())


def test_build_that_fails_is_told_and_does_not_blind_the_sensor(known):
    """A version that cannot be built must not be tried for ever, nor keep the photos that would mend it waiting."""
    make_lake(known.lake, 40)
    assert known.run(known.ask()).success
    for _ in range(MAX_TRIES):
        request = known.tick()
        assert request.partition_key == "v0002"
        known.pretend_run(request, dg.DagsterRunStatus.FAILURE)
    assert "has the photos of v0002; v0002 is not built: 3 runs ended" in known.tick()
    make_lake(known.lake, 50)
    assert asks_for_version(known.ask())


def test_daemon_killed_before_queueing_goes_on_with_the_same_run(known):
    """The run exists and was never started: by the same key Dagster finds it instead of making a second one."""
    make_lake(known.lake, 40)
    first = known.ask()
    known.pretend_run(first, dg.DagsterRunStatus.NOT_STARTED)
    assert known.ask().run_key == first.run_key


def test_stopped_run_stays_stopped(known):
    """What a person ended must not come back within the minute."""
    make_lake(known.lake, 40)
    known.pretend_run(known.ask(), dg.DagsterRunStatus.CANCELED)
    assert "a person stopped it" in known.ask()


def test_lake_that_returns_is_a_new_version(known):
    """Photos out, photos back: three versions with three requests, though the first and last lake are the same."""
    aside = known.root.parent / "aside"
    keys = []
    for source, target in ((known.lake / "cat", aside), (aside, known.lake / "cat")):
        target.mkdir(exist_ok=True)
        for name in ("1.png", "3.png", "5.png"):
            (source / name).rename(target / name)
        request = known.ask()
        keys.append(request.run_key)
        assert known.run(request).success
        pretend_built(known.home, known.versions[-1])
    assert known.versions == ["v0001", "v0002", "v0003"]
    assert len(set(keys)) == 2
    assert "has the photos of v0003" in known.ask()


def test_ingestion_killed_before_its_manifest_is_asked_for_again(known):
    """It had remembered what it read: the fingerprints know photos that no version has."""

    class Killed(Exception):
        pass

    def kill():
        raise Killed

    make_lake(known.lake, 40)
    lake, book = ingestion.look_at(known.home, str(known.lake))
    with pytest.raises(Killed):
        ingest.new_dataset_version(
            lake, known.home.store, known.home.originals, known.home.pixels, book,
            cache=known.home.cache, resolution_px=SIDE, assign_splits=splits.assign, before_commit=kill,
        )  # fmt: skip
    assert counts(known) == (20, 0, 0)


def test_version_without_its_record_is_completed(known):
    """Killed between manifest and record: the ledger must tell of it before anything is built on it."""
    make_lake(known.lake, 40)
    known.ingest()
    (known.home.store.root / files.record_key(RawImages, "v0002", None)).unlink()
    (known.home.store.root / files.record_key(RegisteredModel, "v0002", "a" * 16)).unlink()
    request = known.tick()
    assert request.tags[REQUEST_TAG].startswith("complete-")
    assert known.run(request).success
    assert arrivals.is_recorded(known.home, "v0002")
    assert known.tick().partition_key == "v0002"


def test_caches_may_be_deleted_at_any_time(known):
    """Everything that is needed is in the manifests and in the lake."""
    put(known.lake, "cat/new.png", photo(101))
    shutil.rmtree(known.home.cache)
    assert counts(known) == (1, 0, 0)


def test_lake_that_cannot_be_listed_whole_is_no_removal(known):
    """A mount that went away would otherwise look like a thousand removed photos."""
    shutil.move(known.lake, known.root.parent / "away")
    with pytest.raises(InvalidInput, match="does not exist"):
        known.tick()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))])
def test_whatever_happens_the_newest_version_ends_as_the_lake(known, seed):
    """Photos come, change and go between any two ticks; cursors, caches and runs are lost: nothing is in the end."""
    chance = random.Random(seed)  # noqa: S311
    known.watch = LakeWatch(lake=str(known.lake), num_photos=2, wait_h=0.01)
    for step in range(60):
        for _ in range(chance.choice((0, 0, 1, 3)) if step < 45 else 0):
            _change(known.lake, chance)
        if chance.random() < 0.1:
            known.cursor = None
        if chance.random() < 0.1:
            shutil.rmtree(known.home.cache, ignore_errors=True)
        answer = known.tick(30)
        if is_request(answer) and chance.random() < 0.8:
            known.run(answer)
            pretend_built(known.home, known.versions[-1])
        elif is_request(answer):
            known.pretend_run(answer, chance.choice([dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.NOT_STARTED]))
    assert reconciliation.reconcile(known.home)["offending"] == []
    assert len(known.versions) > 3


def _change(lake, chance):
    """A photo comes, is rewritten, is renamed, or goes; each class keeps enough."""
    paths = sorted(lake.rglob("*.png"))
    path, label = chance.choice(paths), chance.choice(("cat", "dog"))
    match chance.randrange(5):
        case 0 if len(list(path.parent.iterdir())) > 8:
            path.unlink()
        case 1:
            path.write_bytes(photo(chance.randrange(10**6)))
        case 2:
            path.rename(path.with_name(f"{uuid.UUID(int=chance.getrandbits(128))}.png"))
        case _:
            put(lake, f"{label}/{chance.randrange(10**6)}.png", photo(chance.randrange(10**6)))
