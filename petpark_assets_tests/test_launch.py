"""Claims about a build in this process: what a kill or a full disk left undone, the same command completes."""

import dataclasses
import errno
from pathlib import Path

import dagster as dg
import pytest

from petpark_assets import launch
from petpark_assets.assets.versions import ATTEMPT_TAG
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.errors import PermanentError
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import RECIPES, override
from petpark_assets.domain.workflow import retraining, summary, testing
from petpark_assets.resources.environments import Environment, enter_home

HOPELESS = dataclasses.replace(
    override(
        RECIPES["demo"],
        {
            "search": {"algorithm": "none"},
            "hyperparameters": {"epochs": 1, "width": 4},
            "targets": {"accuracy": 1.0, "precision": 1.0, "recall": 1.0},
        },
    ),
    name="hopeless",
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty drawn photos."""
    folder = tmp_path_factory.mktemp("lake") / "photos"
    draw_lake(folder, num_images=60)
    return folder


@pytest.fixture
def build(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`petpark build` on a home of its own with a recipe that no model satisfies."""
    for name in ("PETPARK_HOME", "PETPARK_DAGSTER", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "set by enter_home, and again what it was after the test")
    enter_home(tmp_path / "home")
    monkeypatch.setitem(RECIPES, HOPELESS.name, HOPELESS)
    environment = Environment(
        name="ci", home=tmp_path / "home", actor="tester", photos=None, ray_address=None, recipe=HOPELESS.name
    )
    return lambda: launch.build_lake(environment, str(lake), HOPELESS.name, show=lambda _line: None)


def broken(*_told):
    """What a full disk answers."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.slow
def test_a_rejection_that_a_full_disk_kept_from_being_shown_is_told_and_then_completed(
    build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A rejection without page or request looks like any other, and nobody would ever train again."""
    home, attempt = open_home(tmp_path / "home", actor="tester"), new_attempt("v0001", HOPELESS)
    with monkeypatch.context() as patched:
        patched.setattr(testing, "draw_page", broken)
        with pytest.raises(PermanentError, match=r"evaluation_report failed: .*No space left"):
            build()
    assert not summary.is_finished(home, attempt)
    again = build()
    assert (again["is_accepted"], again["is_new"]) == (False, False)
    assert Path(again["report"]).is_file()
    (filed,) = retraining.read_requests(home.store, "v0001")
    assert filed.request.attempt == attempt.id

    instance = dg.DagsterInstance.get()
    runs = dg.RunsFilter(tags={ATTEMPT_TAG: attempt.id})
    assert len(instance.get_runs(runs)) == 2
    assert build() == again  # and only then nothing is left
    assert len(instance.get_runs(runs)) == 2
    monkeypatch.setattr(launch, "_is_shown", lambda *_: False)  # as after a kill before Dagster noted the step's end
    assert build() == again
    assert len(instance.get_runs(runs)) == 3
