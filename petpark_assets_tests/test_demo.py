"""The demo as whoever tries petpark meets it: run, run again, run with one more photo, and asked what it learned.

All in one home, by the real command, in a folder with a space in its name. Only the third run's model is another: one
epoch shows as well what becomes of photos, versions and lineage, in a third of the time.
"""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact

from petpark_assets.domain.files import sha256
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.drawn import draw_lake, draw_one
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets.domain.records import LABELS
from petpark_assets_tests.test_docs import COMMANDS, command_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # whichever test comes first waits for the demo

NUM_STRANGERS = 150
A_SINGLE_EPOCH = """
import sys
from petpark_assets import cli
from petpark_assets.domain.recipes import RECIPES, override

RECIPES["demo"] = override(RECIPES["demo"], {
    "search": {"algorithm": "none"}, "hyperparameters": {"epochs": 1},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
})
cli.app(sys.argv[1:])
"""
"""`petpark` whose demo trains once, shortly, and registers whatever that has learned."""
FIELDS = ["path", "label", "probability", "is_unknown", "model_version", "error"]
"""Of an answer about a photo, which programs read."""


class Park:
    """A folder in which a person types commands about the home `home`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"

    def petpark(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The real command in a process of its own."""
        return self.type([sys.executable, "-m", "petpark_assets.cli", *words, "--home", "home"])

    def answer(self, *words: str):
        """The document of a command that succeeds."""
        done = self.petpark(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def type(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Any command, in the folder."""
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def sides(self, version: str) -> dict[str, str]:
        """The side of each photo that a version accepted, by sha256."""
        store = open_home(self.home, actor="tester").store
        rows = catalogue.stream_rows(store, version, ("sha256", "split", "state"))
        return {name: side for name, side, state in rows if state == "accepted"}


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> Park:
    """An empty one."""
    return Park(tmp_path_factory.mktemp("pet park"))


@pytest.fixture(scope="module")
def first(park: Park) -> subprocess.CompletedProcess[str]:
    """The demo's first run, for people."""
    return park.petpark("demo")


@pytest.fixture(scope="module")
def second(park: Park, first) -> subprocess.CompletedProcess[str]:  # noqa: ARG001 - it comes after it
    """The same again, for programs."""
    return park.petpark("demo", "--json")


@pytest.fixture(scope="module")
def third(park: Park, second) -> subprocess.CompletedProcess[str]:  # noqa: ARG001 - it comes after it
    """And with a photo more, drawn like the others."""
    draw_one(np.random.default_rng([0, 400]), "cat").save(park.home / "lake" / "cat" / "rex.jpg")
    return park.type([sys.executable, "-c", A_SINGLE_EPOCH, "demo", "--json", "--home", "home"])


@pytest.fixture(scope="module")
def strangers(park: Park) -> list[Path]:
    """Photos of the same kind that were never in the lake, and one that is none."""
    draw_lake(park.folder / "strangers", num_images=NUM_STRANGERS, num_broken=1, seed=1)
    return sorted((park.folder / "strangers").glob("*/*"))


@pytest.fixture(scope="module")
def asked(park: Park, first, strangers: list[Path]) -> subprocess.CompletedProcess[str]:  # noqa: ARG001 - of its model
    """The first model, asked about all of them in one command."""
    return park.petpark("classify", *map(str, strangers), "--model", "1", "--json")


def test_the_first_run_registers_a_model(first):
    """Whoever typed one command reads what it made, of how many photos, and how good it is."""
    assert first.returncode == 0, first.stderr
    assert "v0001 (new): 400 accepted, 1 duplicate, 1 ignored, 7 quarantined, 408 seen\n" in first.stdout
    assert "\naccepted: " in first.stdout
    assert "\nregistered as version 1\n" in first.stdout


def test_the_next_commands_are_understood(park: Park, first):
    """They are copied as they stand: program, photo and home must be there, and every word known."""
    typed = [shlex.split(line) for line in first.stderr.rpartition("next:\n")[2].splitlines()]
    found = {command_of(words): words for _, *words in typed}
    assert set(found) == {("dev",), ("classify",), ("registry", "show"), ("registry", "download"), ("build",)}
    told = {path: COMMANDS[path].make_context(path[-1], words[len(path) :]).params for path, words in found.items()}
    assert told.pop(("build",))["home"] is None  # of a lake of one's own
    assert {park.folder / params["home"] for params in told.values()} == {park.home}
    assert all((park.folder / photo).is_file() for photo in told["classify",]["photos"])
    (program,) = {program for program, *_ in typed}
    assert (park.folder / (shutil.which(program) or program)).is_file()


def test_the_second_run_makes_nothing_and_says_so(first, second):
    """The same document in a few seconds: no version, no attempt, no model more."""
    document = json.loads(second.stdout)
    assert second.returncode == 0
    assert "nothing changed: the newest version is still v0001: " in second.stderr
    assert (document["dataset_version"], document["is_new"], document["model_version"]) == ("v0001", False, 1)
    assert f"attempt {document['attempt']}" in first.stdout
    assert f"accuracy on the test side {document['accuracy']:.4f}" in first.stdout
    assert document["seconds"].keys() >= {"raw_images", "hyperparameter_search", "trained_cnn", "onnx_package"}
    assert Path(document["report"]).is_file()


def test_one_more_photo_is_one_photo_s_work_and_moves_no_other(park: Park, second, third):
    """The next version reads that photo alone, and whoever learned or examined before does so for ever."""
    before, document = (json.loads(done.stdout) for done in (second, third))
    assert (third.returncode, document["dataset_version"], document["is_new"]) == (0, "v0002", True)
    (line,) = [line for line in third.stderr.splitlines() if line.startswith("made v0002: ")]
    assert line.endswith(" 401 accepted, 1 duplicate, 7 quarantined, 1 ignored; 1 files read, 1 photos new")
    assert (before["model_version"], document["model_version"]) == (1, 2)
    old, new = park.sides("v0001"), park.sides("v0002")
    assert set(old.values()) == {"train", "test"}
    assert new.items() > old.items()
    assert set(new) - set(old) == {sha256((park.home / "lake" / "cat" / "rex.jpg").read_bytes())}


def test_all_of_it_is_proved_afterwards(park: Park, third):  # noqa: ARG001 - it comes after it
    """From both registered models back to the lake, from the files alone."""
    lake, audit = park.answer("lake", "verify"), park.answer("audit", "verify")
    assert (lake["is_sound"], lake["num_versions"], lake["num_photos"]) == (True, 2, 401)
    assert (audit["is_sound"], audit["num_registered"]) == (True, 2)


def test_strangers_are_answered_as_well_as_the_exam_said(park: Park, second, asked, strangers: list[Path]):
    """The report's accuracy is a promise about photos that nobody has seen yet, asked for as a person asks.

    Both are samples of one truth, so that Fisher's exact test tells them apart by chance once in a thousand machines at
    most: on one machine model, photos and answers are the same each time.
    """
    seen = park.sides("v0001")
    answered = [(path, row) for path, row in zip(strangers, json.loads(asked.stdout), strict=True) if not row["error"]]
    assert not any(sha256(path.read_bytes()) in seen for path in strangers)
    assert len(answered) == NUM_STRANGERS
    for path, row in answered:
        assert list(row) == FIELDS
        assert (row["path"], row["model_version"], row["error"]) == (str(path), 1, None)
        assert row["label"] in LABELS
        assert 0.5 <= row["probability"] <= 1
        assert isinstance(row["is_unknown"], bool)
    num_right = sum(row["label"] == path.parent.name for path, row in answered)
    exam = json.loads(second.stdout)
    num_examined, num_passed = exam["test_images"], round(exam["accuracy"] * exam["test_images"])
    table = [[num_right, NUM_STRANGERS - num_right], [num_passed, num_examined - num_passed]]
    assert fisher_exact(table).pvalue > 0.001


def test_a_broken_photo_is_exit_code_1_and_a_row(asked, strangers: list[Path]):
    """A program that asks about many sees which one failed and why, and has the answers about all others."""
    assert asked.returncode == 1
    (row,) = [row for row in json.loads(asked.stdout) if row["error"]]
    assert list(row) == FIELDS
    assert Path(row["path"]).name == "broken-1-text.jpg"
    assert (row["label"], row["probability"], row["is_unknown"], row["model_version"]) == (None, None, None, 1)
    assert Path(row["path"]) in strangers


def test_a_promoted_model_is_downloaded_whole_and_answers_the_same(park: Park, first, third, strangers: list[Path]):  # noqa: ARG001
    """What a person chose is what the printed line fetches, and another machine runs it from that folder alone."""
    moved = park.answer("registry", "promote", "2", "--by", "Ann", "--because", "rex is in it")
    assert (moved["champion"], moved["is_moved"], moved["by"]) == (2, True, "Ann")
    assert {row["version"]: "champion" in row["aliases"] for row in park.answer("registry", "list")} == {
        1: False,
        2: True,
    }
    (line,) = [line for line in first.stderr.splitlines() if " registry download champion --to model " in line]
    done = park.type(shlex.split(line))
    assert done.returncode == 0, done.stderr
    photos = [path for path in strangers if "broken" not in path.name][::10]
    rows = park.answer("classify", *map(str, photos))
    predictor = Predictor.open(park.folder / "model")
    answers = [predictor.classify(path.read_bytes()) for path in photos]
    assert {row["model_version"] for row in rows} == {2}
    assert [(row["label"], row["probability"], row["is_unknown"]) for row in rows] == [
        (answer.label, round(answer.probability, 4), answer.is_unknown) for answer in answers
    ]
