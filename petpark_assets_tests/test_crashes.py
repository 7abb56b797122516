"""Killed anywhere, a build that the sensors drive comes to the same end: three kills here, fifty in `make bench`.

Not here: a power cut, which takes all at once (test_power_cut.py), and kills inside one step (domain/).
"""

import dataclasses
import random
import subprocess
import sys

import pytest

from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.files import read_record, write_record
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.records import RawImages, TrainSplit
from petpark_assets.domain.workflow import ingestion
from petpark_assets_tests.benchmarks.crash_reader import assert_nothing_half_made, contents
from petpark_assets_tests.benchmarks.crashes import HOUSE, NUM_PHOTOS, Build, draw


@pytest.fixture
def home(tmp_path):
    """A home with one version and its sides."""
    draw_lake(tmp_path / "lake", num_images=12)
    home = open_home(tmp_path / "home", actor="tester")
    ingestion.new_dataset_version(home, str(tmp_path / "lake"), 32)
    ingestion.split(home, "v0001")
    assert_nothing_half_made(home)
    return home


def test_a_version_without_one_of_its_photos_is_half_made(home):
    """The proof below rests on a reader who notices."""
    rows = catalogue.read_manifest(home.store, "v0001").to_pylist()
    home.originals.forget([next(row["sha256"] for row in rows if row["state"] == catalogue.ACCEPTED)])
    with pytest.raises(NotFound, match="the original"):
        assert_nothing_half_made(home)


def test_a_record_of_another_parent_is_half_made(home):
    """The same of what was made from something else than what is there."""
    split = read_record(home.store, TrainSplit, "v0001")
    home.store.delete("train_split/v0001.json")
    write_record(home.store, dataclasses.replace(split, raw_images="0" * 64), {})
    with pytest.raises(AssertionError, match="train_split has another raw_images"):
        assert_nothing_half_made(home)


def test_an_outcome_that_is_told_twice_shows(home):
    """Beginnings may be told again after a kill, what came of them may not."""
    before = contents(home)
    home.ledger.append("test_side_opened", {"dataset_version": "v0001"})
    assert contents(home) == before
    home.ledger.append("dataset_version_made", dataclasses.asdict(read_record(home.store, RawImages, "v0001")))
    assert set(contents(home)["outcomes"].values()) == {1, 2}


SEED = 20
"""Of those that kill a service after it has begun to work."""
SURELY_S = {"daemon": 30, "code server": 30, "run worker": 25, "step": 20, "Ray": 4}
"""Less than an undisturbed build has one of each, so that all kills come: at most a fifth, on two busy cores."""


@pytest.mark.slow
@pytest.mark.timeout(1500)  # after the build's own limit, which says what was not finished
def test_a_build_killed_at_random_moments_comes_to_the_end_of_an_undisturbed_one(tmp_path):
    """Whatever dies, nobody has to mend anything: same digests, same aliases, same outcomes, and nothing left open.

    The undisturbed one is built in one process, which shows besides that the daemon's way to a model is no other.
    """
    draw_lake(tmp_path / "lake", num_images=NUM_PHOTOS)
    build = Build(tmp_path / "killed", tmp_path / "lake")
    variables = {**build.services.environment, "PETPARK_HOME": str(tmp_path / "quiet")}
    dice = random.Random(SEED)  # noqa: S311 - drawn to be repeated, not secret
    build.run(draw(dice, SURELY_S, 3), dice)
    subprocess.run([sys.executable, "-m", HOUSE, tmp_path / "lake"], env=variables, check=True)
    assert len(build.kills) == 3
    assert build.num_looks > 10
    expected, found = (contents(open_home(home, actor="reader")) for home in (tmp_path / "quiet", build.home))
    assert found == expected, build.kills
