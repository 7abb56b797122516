"""Claims about `petpark`: one clear line for an error, one JSON document for a program, and the exit codes promised."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from petpark_assets.cli import _exit_code, _show_demo, app
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue
from petpark_assets.resources.environments import Environment
from petpark_assets_tests.domain.audit.drawn_home import photo

PHOTO_PX = 32


def _petpark(home: Path, *words: str, stdout: IO[str] | int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "petpark_assets.cli", *words]
    environment = {**os.environ, "PETPARK_HOME": str(home)}
    return subprocess.run(command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


def _photo(path: Path, number: int) -> None:
    """A photo like no other: of one colour, all would be copies of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (PHOTO_PX, PHOTO_PX, 3), np.uint8)
    Image.fromarray(noise).save(path)


def _lake(folder: Path, labels: tuple[str, ...] = ("cat", "dog"), num: int = 6) -> Path:
    for index, label in enumerate(labels):
        for number in range(num):
            _photo(folder / label / f"{number}.png", 100 * index + number)
    return folder


def _refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal: exit code 1, no traceback anywhere, nothing on stdout."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("petpark: ")]
    return line


def test_bad_lakes_are_refused_in_one_line(tmp_path: Path):
    """Whoever points at the wrong folder must read what is wrong with it, and nothing may be made of it."""
    empty, one_class, home = tmp_path / "empty", _lake(tmp_path / "one", ("cat",)), tmp_path / "home"
    empty.mkdir()
    refusals = {
        tmp_path / "nowhere": "does not exist",
        empty: "has no photos",
        one_class: "is labelled dog",
    }
    for lake, words in refusals.items():
        assert words in _refused(_petpark(home, "lake", "ingest", "--lake", str(lake)))
    assert not (home / "store" / "raw_images").exists()


def test_an_ingestion_prints_one_document_and_says_when_nothing_changed(tmp_path: Path):
    """Programs read stdout; a second look at the same lake makes no version."""
    lake, home = _lake(tmp_path / "lake"), tmp_path / "home"
    first, second = (_petpark(home, "lake", "ingest", "--lake", str(lake), "--json") for _ in range(2))
    summaries = [json.loads(done.stdout) for done in (first, second)]
    assert [done.returncode for done in (first, second)] == [0, 0]
    assert [(each["dataset_version"], each["is_new"]) for each in summaries] == [("v0001", True), ("v0001", False)]
    images = {"seen": 12, "accepted": 12, "duplicate": 0, "quarantined": 0, "ignored": 0}
    assert summaries[0]["images"] == images

    _photo(lake / "cat" / "late.png", 250)
    third = json.loads(_petpark(home, "lake", "ingest", "--lake", str(lake), "--json").stdout)
    assert (third["dataset_version"], third["is_new"], third["images"]["accepted"]) == ("v0002", True, 13)


@pytest.mark.parametrize(
    ("is_accepted", "overridden_by", "code"), [(True, None, 0), (False, None, 1), (False, "Ann", 0)]
)
def test_a_rejected_model_is_exit_code_1_unless_a_person_let_it_through(is_accepted, overridden_by, code):
    """So that a script stops where the gate did (builds themselves: test_demo.py, security/test_processes.py)."""
    assert _exit_code({"is_accepted": is_accepted, "overridden_by": overridden_by}) == code


def test_the_demo_names_a_photo_of_its_lake_whatever_it_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The lake is drawn once; from then on a person may put photos in it, and take the drawn ones out."""
    broken = {**photo(1), "key": "cat/broken.jpg", "state": "quarantined", "split": None, "reason": "truncated"}
    rows = [broken, {**photo(0), "key": "dog/it's rex.png"}]
    store = open_home(tmp_path, actor="tester").store
    catalogue.write_manifest(store, "v0001", catalogue.build_table(rows, num_ignored=0, previous_manifest=None))
    environment = Environment(name="ci", home=tmp_path, actor="tester", photos=None, ray_address=None)
    ingested = {
        "dataset_version": "v0001", "images": {}, "is_new": True, "quarantined_by_reason": {}, "train_images": None,
        "accuracy": None,
    }  # fmt: skip
    _show_demo(ingested, environment)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " classify " in line]
    _, verb, name, *_ = shlex.split(line)
    assert (verb, Path(name).resolve()) == ("classify", tmp_path / "lake" / "dog" / "it's rex.png")


def test_what_a_killed_build_left_behind_does_not_stop_the_next(tmp_path: Path):
    """A run in a killed terminal stays started and keeps the training pool's only place: the next build ends it."""
    home, lake = tmp_path / "home", _lake(tmp_path / "lake")
    assert _petpark(home, "lake", "ingest", "--lake", str(lake)).returncode == 0
    begin = (
        "import os, sys, dagster as dg; from pathlib import Path;"
        "from petpark_assets.resources.environments import enter_home; enter_home(Path(sys.argv[1]));"
        "from petpark_assets.launch import IN_PROCESS; instance = dg.DagsterInstance.get();"
        "run = instance.create_run_for_job(dg.job(name='killed')(lambda: None), tags=IN_PROCESS);"
        "instance.report_dagster_event(dg.DagsterEvent('PIPELINE_START', 'killed'), run_id=run.run_id);"
        "instance.event_log_storage.initialize_concurrency_limit_to_default('training');"
        "instance.event_log_storage.claim_concurrency_slot('training', run.run_id, 'trained_cnn');"
        "print(run.run_id, flush=True); os.kill(os.getpid(), 9)"
    )
    _photo(lake / "cat" / "late.png", 250)  # or the next look would need no run
    killed = subprocess.run([sys.executable, "-c", begin, str(home)], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert _petpark(home, "lake", "ingest", "--lake", str(lake)).returncode == 0
    look = (
        "import sys, dagster as dg; from pathlib import Path;"
        "from petpark_assets.resources.environments import enter_home; enter_home(Path(sys.argv[1]));"
        "instance = dg.DagsterInstance.get();"
        "print(instance.get_run_by_id(sys.argv[2]).status.value,"
        "instance.event_log_storage.get_concurrency_info('training').active_slot_count)"
    )
    command = [sys.executable, "-c", look, str(home), killed.stdout.strip()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["FAILURE", "0"]


def test_a_home_refuses_another_lake(tmp_path: Path):
    """Two lakes in one home would be one history of two things."""
    home = tmp_path / "home"
    assert _petpark(home, "lake", "ingest", "--lake", str(_lake(tmp_path / "one"))).returncode == 0
    line = _refused(_petpark(home, "lake", "ingest", "--lake", str(_lake(tmp_path / "two"))))
    assert str(tmp_path / "one") in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classify", "photo.jpg"], "there is no model 'champion': nothing was registered yet"),
        (["registry", "show", "champion"], "there is no model 'champion': nothing was registered yet"),
        (["registry", "download", "7", "--to", "there"], "there is no model '7'"),
        (["registry", "promote", "7", "--by", "anna", "--because", "better"], "'7'"),
        (["lake", "export", "v0009", "--to", "there"], "there is no dataset version 'v0009'"),
        (["build", "--lake", ".", "--recipe", "desktop"], "there is no recipe 'desktop': choose one of demo"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_does_not_exist_is_named_with_what_does(tmp_path: Path, words: list[str], message: str):
    """A wrong version, a missing alias, an unknown recipe: one line, exit code 1."""
    assert message in _refused(_petpark(tmp_path / "home", *words))


def test_an_error_is_a_document_too_when_a_program_asked(tmp_path: Path):
    """With --json stdout holds one document whatever happens."""
    done = _petpark(tmp_path / "home", "registry", "show", "champion", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"].startswith("there is no model 'champion'")


@pytest.mark.parametrize(("name", "value"), [("PETPARK_ENV", "prod"), ("PETPARK_RECIPE", "desktop")])
@pytest.mark.parametrize("words", [("registry", "list"), ("build", "--lake", "."), ("audit", "verify"), ("upgrade",)])
def test_a_bad_variable_is_a_document_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: tuple[str, ...]
):
    """Also before a verb begins: a program that reads stdout must find one there."""
    monkeypatch.setenv(name, value)
    done = _petpark(tmp_path / "home", *words, "--json")
    assert done.returncode == 1
    (error,) = json.loads(done.stdout).values()
    assert repr(value) in error
    assert done.stderr.split() == ["petpark:", *error.split()]


def test_a_full_disk_under_the_answer_is_one_line(tmp_path: Path):
    """What is left unwritten must not come back as a traceback at the very end."""
    with Path("/dev/full").open("w") as full:
        done = _petpark(tmp_path / "home", "registry", "list", "--json", stdout=full)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.startswith("petpark: the machine refused: No space left on device")


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path):
    """`petpark registry list | head -1`: nobody is left to be told anything."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        done = _petpark(tmp_path / "home", "registry", "list", "--json", stdout=nobody)
    assert (done.returncode, done.stderr) == (1, "")


def test_wrong_usage_is_exit_code_2(tmp_path: Path):
    """So that scripts can tell a typing error from a refusal."""
    assert _petpark(tmp_path / "home", "build").returncode == 2
    assert _petpark(tmp_path / "home", "lake", "drain").returncode == 2


@pytest.mark.parametrize(
    "words",
    [
        "registry list --home X", "lake ingest --lake X", "lake ingest --lake . --labels X", "lake reconcile --lake X",
        "lake forget X --reason asked", "lake forget cat/1.png --reason X", "backup X", "restore X",
        "lake correct cat/1.png cat --by X --because seen", "registry promote 1 --by Kim --because X",
        "classify cat/1.png X --json", "audit image X", "audit bundle 1 --to X", "lake export 1 --to X",
        "registry download 1 --to X",
    ],
)  # fmt: skip
def test_a_word_that_is_not_text_is_wrong_usage(tmp_path: Path, words: str):
    """A file's name may be any bytes; no ledger, record or JSON has letters for them."""
    done = _petpark(tmp_path / "home", *words.replace("X", "caf\udce9").split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not UTF-8: write it in letters" in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["PETPARK_ACTOR", "PETPARK_LAKE", "PETPARK_HOME"])
def test_a_variable_that_is_not_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """Nothing could be recorded under such a name; a default home may be in a folder that has one."""
    folder = tmp_path / ("caf\udce9" if name == "PETPARK_HOME" else "home")
    if name != "PETPARK_HOME":
        monkeypatch.setenv(name, "caf\udce9")
    assert f"{name} must be UTF-8" in _refused(_petpark(folder, "lake", "status"))


def test_an_unknown_environment_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also what goes wrong before a verb begins."""
    monkeypatch.setenv("PETPARK_ENV", "prod")
    assert "PETPARK_ENV is 'prod'" in _refused(_petpark(tmp_path / "home", "registry", "list"))


def test_every_verb_has_help():
    """What a verb does is said where it is typed."""
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    for command in (command for group in groups for command in group.registered_commands):
        assert (command.callback.__doc__ or "").strip().endswith(".")


def test_a_correction_is_noted_and_the_next_version_has_it(tmp_path: Path):
    """The person, the reason and both claims must be there when somebody asks years later."""
    lake, home = _lake(tmp_path / "lake", num=15), tmp_path / "home"
    assert _petpark(home, "lake", "ingest", "--lake", str(lake)).returncode == 0
    words = ("lake", "correct", "cat/0.png", "dog", "--by", "Ann", "--because", "it barks", "--json")
    done = _petpark(home, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["by"] == "Ann"
    assert "label_corrected" in (home / "ledger.jsonl").read_text()
    assert _petpark(home, "lake", "ingest", "--lake", str(lake)).returncode == 0
    changes = json.loads(_petpark(home, "lake", "diff", "1", "2", "--json").stdout)["changes"]
    assert [(row["change"], row["key_after"], row["label_after"]) for row in changes] == [
        ("relabelled", "cat/0.png", "dog")
    ]
    shown = _petpark(home, "lake", "diff", "1", "2").stdout
    assert "relabelled" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_label_sources_hold_until_others_are_given(tmp_path: Path):
    """A look that names no sources must not silently take back what a table said."""
    lake, home = _lake(tmp_path / "lake"), tmp_path / "home"
    (lake / "labels.csv").write_text("key,label\ncat/0.png,dog\n")
    ingest = ("lake", "ingest", "--lake", str(lake), "--json")
    assert _petpark(home, *ingest, "--labels", "lake:labels.csv", "--labels", "names").returncode == 0
    again = json.loads(_petpark(home, *ingest).stdout)
    assert (again["dataset_version"], again["is_new"]) == ("v0001", False)
    other = json.loads(_petpark(home, *ingest, "--labels", "names").stdout)
    assert (other["dataset_version"], other["is_new"]) == ("v0002", True)


def test_a_secret_in_an_address_is_refused_and_stored_nowhere(tmp_path: Path):
    """Run configuration is kept for ever, and shown in the UI."""
    home = tmp_path / "home"
    for words in (
        ("build", "--lake", "s3://KEY:Geheim99@bucket/photos"),
        (
            "lake",
            "ingest",
            "--lake",
            str(_lake(tmp_path / "lake")),
            "--labels",
            "sql:postgresql://me:Geheim99@h/db#SELECT 1",
        ),
        ("build", "--lake", str(tmp_path / "lake"), "--labels", "sql:postgresql://me:Geheim99@h/db#SELECT 1"),
    ):
        assert "Geheim99" not in _refused(_petpark(home, *words))
    assert not any(b"Geheim99" in path.read_bytes() for path in home.rglob("*") if path.is_file())
