"""Claims about `petpark lake`: what verbs print of a home, and their exit codes; they run in this process."""

import base64
import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from petpark_assets.cli import app
from petpark_assets.domain import images
from petpark_assets.domain.lake import catalogue, contact_sheets, tombstones
from petpark_assets_tests.checks import doctored
from petpark_assets_tests.originals import read_original

UNLABELLED = "broken-4-unlabelled.jpg"
"""A photo that is whole and set aside: it lies in no class's folder."""


@pytest.fixture(scope="module")
def drawn_home(tmp_path_factory):
    """A good home with photos, to be read only."""
    return doctored.drawn(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def home(drawn_home, tmp_path):
    """A copy of it, to be changed."""
    return doctored.copied(drawn_home, tmp_path)


def petpark_lake(home, *words) -> Result:
    """A verb, in a home."""
    done = CliRunner().invoke(app, ["lake", *words, "--home", str(home.root)])
    assert "Traceback" not in done.output
    return done


def rows(home):
    """The rows of the newest version, by key."""
    return {row["key"]: row for row in catalogue.read_manifest(home.store, "v0001").to_pylist()}


def test_a_good_home_is_proven_with_exit_code_0(drawn_home):
    """Else the refusal below could be that of any home."""
    done = petpark_lake(drawn_home, "verify")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("sound: 1 versions, 21 photos\n")
    assert " offences: " not in done.stdout


def test_a_copy_on_the_other_side_is_printed_with_its_pair_and_exit_code_1(home):
    """A schedule notices by the code, a person by the line which two photos, a program by the document."""
    keys = doctored.part_copies(home)
    sha256s = {side: rows(home)[key]["sha256"] for side, key in keys.items()}
    for_people, for_programs = petpark_lake(home, "verify"), petpark_lake(home, "verify", "--json")
    assert (for_people.exit_code, for_programs.exit_code) == (1, 1)

    document = json.loads(for_programs.stdout)
    assert (document["is_sound"], document["copies_keep_one_side"], document["no_leak_by_another_signature"]) == (
        False, 1, 1,
    )  # fmt: skip
    pairs = [row for row in document["offending"] if row["other_key"]]
    assert {row["claim"] for row in pairs} == {"copies_keep_one_side", "no_leak_by_another_signature"}
    for row in pairs:
        assert (row["key"], row["other_key"]) == (keys["test"], keys["train"])
        assert (row["sha256"], row["other_sha256"]) == (sha256s["test"], sha256s["train"])

    assert for_people.stdout.startswith("NOT SOUND: 1 versions, 21 photos\n")
    lines = [line for line in for_people.stdout.splitlines() if keys["test"] in line and keys["train"] in line]
    assert len(lines) == 2
    assert all(sha256[:12] in line for line in lines for sha256 in sha256s.values())


def test_forgetting_answers_with_all_that_had_the_photo(home):
    """Whoever asked to be forgotten is owed this answer; the same words again say that it was done before."""
    gone, copy = (rows(home)[key] for key in ("cat/00000.jpg", doctored.COPY))
    done = petpark_lake(home, "forget", gone["key"], "--reason", "its owner asked", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["sha256"], document["keys"], document["is_new"]) == (gone["sha256"], [gone["key"]], True)
    assert (document["reason"], document["still_in_lake"]) == ("its owner asked", [gone["key"]])
    assert [(row["dataset_version"], row["key"]) for row in document["dataset_versions"]] == [("v0001", gone["key"])]
    assert [row["key"] for row in document["near_duplicates"]] == [copy["key"]]
    assert tombstones.forgotten(home.store) == {gone["sha256"]}
    assert home.originals.missing([gone["sha256"], copy["sha256"]]) == [gone["sha256"]]

    again = petpark_lake(home, "forget", gone["sha256"][:12], "--reason", "its owner asked")
    assert again.exit_code == 0, again.output
    lines = [" ".join(line.split()) for line in again.stdout.splitlines()]
    assert {"is_new False", "reason its owner asked", "dataset versions", "near duplicates"} <= set(lines)


def test_forgetting_what_no_version_has_seen_is_refused_in_one_line(home):
    """A mistyped name must not look like a photo that is gone."""
    done = petpark_lake(home, "forget", "cat/typo.jpg", "--reason", "its owner asked")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("petpark: no version has a photo 'cat/typo.jpg'")
    assert tombstones.forgotten(home.store) == frozenset()


def test_the_status_page_shows_what_was_set_aside(drawn_home, tmp_path):
    """A person mends a lake by looking: the photo itself is on the page, beside its name and the reason."""
    page = tmp_path / "page.html"
    done = petpark_lake(drawn_home, "status", "--html", str(page))
    assert done.exit_code == 0, done.output
    assert "1 unlabelled" in " ".join(done.stdout.split())
    photo = read_original(drawn_home.originals, rows(drawn_home)[UNLABELLED]["sha256"])
    picture = base64.b64encode(contact_sheets.thumbnail(images.decode(photo))).decode()
    assert f'<img src="data:image/jpeg;base64,{picture}" alt="{UNLABELLED}"' in page.read_text()
