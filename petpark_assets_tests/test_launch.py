"""Claims about a build in this process: what a kill or a full disk left undone, the same command completes."""

import dataclasses
import errno
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from petpark_assets import cli, launch
from petpark_assets.assets.versions import ATTEMPT_TAG
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.errors import PermanentError
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.catalogue import list_versions
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import RECIPES, override
from petpark_assets.domain.workflow import retraining, summary, testing
from petpark_assets.resources.environments import Environment, enter_home
from petpark_assets_tests.benchmarks.crash_reader import assert_nothing_half_made

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


SIZES_KB = (64, 120, 300, 500, 800)
"""Of a disk that is full while the first of Dagster's databases is made, at its end, among the others, in the run."""


@pytest.fixture
def small_home(tmp_path: Path):
    """A home on a disk of its own, and what gives that another size."""
    home = tmp_path / "home"
    home.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", home], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk (root): {made.stderr.decode().strip()}")
    yield home, lambda size_kb: subprocess.run(["mount", "-o", f"remount,size={size_kb}k", home], check=True)
    subprocess.run(["umount", "--lazy", home], check=True)


def schemas(folder: Path) -> dict[str, list]:
    """What each of Dagster's databases is made of: tables, indexes, its version, and what Dagster has moved in it."""
    found = {}
    for name in ("history/runs.db", "history/runs/index.db", "schedules/schedules.db"):
        with closing(sqlite3.connect(folder / name)) as database:
            queries = ("SELECT sql FROM sqlite_master", "SELECT * FROM alembic_version")
            moved = "SELECT name FROM secondary_indexes WHERE migration_completed IS NOT NULL"
            found[name] = [sorted(database.execute(query).fetchall(), key=str) for query in (*queries, moved)]
    return found


def undisturbed_schemas(folder: Path) -> dict[str, list]:
    """The same of those that are made where there is room."""
    home = folder / "undisturbed"
    launch.make_databases(Environment(name="ci", home=home, actor="tester", photos=None, ray_address=None))
    return schemas(folder / "undisturbed/dagster")


def test_a_full_disk_is_one_line_and_with_room_the_same_command_goes_on(
    lake: Path, small_home, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """Dagster's SQLite lies on the home's disk, and its errors, with whole queries in them, come from anywhere.

    Databases that it had begun it would complete as if they were old ones, without some indexes, for ever.
    """
    home, resize = small_home

    def ingest() -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.app(["lake", "ingest", "--lake", str(lake), "--home", str(home)], prog_name="petpark")
        return ended.value.code, capfd.readouterr().err

    for size_kb in SIZES_KB:
        resize(size_kb)
        code, told = ingest()
        refused = f"petpark: no space left on the disk while writing {home}/"
        assert (code, [line for line in told.splitlines() if "sql" in line.lower()]) == (1, [])
        assert told.splitlines()[-1].startswith(refused)
        assert told.count("no space left") == 1
        assert_nothing_half_made(open_home(home, actor="reader"))
    assert not [path.name for path in home.iterdir() if path.name in {"errors.log", ".dagster.part"}]
    resize(100_000)
    assert ingest()[0] == 0
    assert list_versions(open_home(home, actor="reader").store) == ["v0001"]
    assert schemas(home / "dagster") == undisturbed_schemas(tmp_path)


def test_the_ui_begins_no_databases_on_a_full_disk(
    small_home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """A person's first command may be `petpark dev`: Dagster would go on with half of them for ever."""
    home, resize = small_home
    monkeypatch.setattr(cli, "_run_until_stopped", lambda _arguments: 0)

    def dev() -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.app(["dev", "--reports-port", "0", "--home", str(home)], prog_name="petpark")
        return ended.value.code, capfd.readouterr().err

    resize(120)
    code, told = dev()
    assert (code, told.count("\n")) == (1, 1)
    assert told.startswith(f"petpark: no space left on the disk while writing {home}/dagster")
    assert not [path.name for path in home.iterdir() if "dagster" in path.name]
    resize(100_000)
    assert dev()[0] == 0
    assert schemas(home / "dagster") == undisturbed_schemas(tmp_path)
