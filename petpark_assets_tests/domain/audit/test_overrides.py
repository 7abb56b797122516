"""Claims about a rejected model that a person let through: no view shows it without saying by whom and why."""

import json
import shutil
import subprocess
import sys

import pytest

from petpark_assets.domain.audit import bundle, changes, models, pages, photos, timeline, trail, verifier
from petpark_assets.domain.files import canonical_json
from petpark_assets.domain.home import Home
from petpark_assets.domain.package.contents import write_sums
from petpark_assets.domain.workflow import registration
from petpark_assets_tests.domain.audit import drawn_home
from petpark_assets_tests.domain.audit.drawn_home import REJECTED, SECOND

BECAUSE = "the <park> opens on Monday"


@pytest.fixture(scope="module")
def overridden(home, tmp_path_factory) -> Home:
    """The drawn home, in which olga let the rejected model through, and mia promoted it: version 3."""
    opened = drawn_home.let_through(home, tmp_path_factory.mktemp("overridden"), BECAUSE)
    registration.promote(opened, "3", by="mia", because="olga is right")
    return opened


@pytest.fixture(scope="module")
def contents(overridden):
    """The files of its bundle."""
    return bundle.build_files(overridden, trail.find_model(overridden, "3"))


def _is_told(row) -> bool:
    assert row["overridden_at"]
    return (row["overridden_by"], row["overridden_because"]) == ("olga", BECAUSE)


def test_every_answer_about_it_says_by_whom_and_why(overridden):
    """Model, rejected, approved, index, the champion of a moment, what changed, the dataset version, and a photo."""
    assert _is_told(models.describe_model(overridden, "3"))
    answer = models.rejected(overridden)
    assert [_is_told(row) for row in answer["rejected"]] == [True]
    assert _is_told(answer["approved"][-1])
    assert [row["attempt"] for row in models.list_models(overridden) if row["overridden_by"]] == [REJECTED]
    moment = timeline.at(overridden, "2999-01-01")
    assert _is_told(moment["champion"])
    assert _is_told(moment["rejected"][0])
    told = changes.compare_models(overridden, "2", "3")
    assert (_is_told(told["after"]), told["before"]["overridden_by"]) == (True, None)
    rows = photos.describe_photo(overridden, drawn_home.photo(5)["sha256"])["models"]
    assert [row["attempt"] for row in rows if row["overridden_by"]] == [REJECTED]
    rows = timeline.describe_dataset(overridden, "v0002")["models"]
    assert {row["attempt"]: row["overridden_by"] for row in rows} == {REJECTED: "olga", SECOND: None}


def test_the_moment_before_it_knows_nothing_of_it(overridden):
    """History is not written over: until then it was rejected and nothing else."""
    (event,) = [event for event in overridden.ledger.events() if event.event == "gate_overridden"]
    before = next(known for known in overridden.ledger.events() if known.number == event.number - 1)
    (row,) = timeline.at(overridden, before.time)["rejected"]
    assert (row["attempt"], row["overridden_by"]) == (REJECTED, None)


def test_its_page_and_the_index_say_so(overridden, tmp_path):
    """In the heading, with the reason, escaped; and the word is a box of the lineage that opens its record."""
    page = pages.write_model_page(overridden, "3", tmp_path / "3.html").read_text()
    assert "Rejected, and let through by olga" in page
    assert "the &lt;park&gt; opens on Monday" in page
    assert '<a href="#gate_override"' in page
    assert 'id="gate_override"' in page
    assert 'class="broken"' not in page
    pages.write_index(overridden, tmp_path / "index.html")
    index = (tmp_path / "index.html").read_text()
    assert index.count("let through by olga") == 2, "in the list of models, and in that of champions"
    assert "let through: the &lt;park&gt;" in index


def test_its_bundle_is_whole_and_says_so(overridden, tmp_path):
    """A bare Python verifies it, and prints what a reader must not miss."""
    bundle.write_bundle(overridden, "3", tmp_path / "m.zip")
    command = [sys.executable, "-I", "-S", verifier.__file__, str(tmp_path / "m.zip")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"let through by olga: {BECAUSE}; the verdict was rejected: accuracy 0.5 is below 0.7" in done.stdout


def test_its_bundle_carries_the_word_with_its_event(contents):
    """As a record, in the ledger's slice, on the page and in the bill of materials."""
    assert json.loads(contents["records/gate_override.json"])["content"]["by"] == "olga"
    assert b'"gate_overridden"' in contents["ledger.jsonl"]
    assert b"let through by olga" in contents["audit.html"]
    properties = json.loads(contents["bom.cdx.json"])["metadata"]["component"]["properties"]
    assert {"name": "petpark:overridden_because", "value": BECAUSE} in properties


def test_a_bundle_without_the_word_is_refused(contents):
    """Whoever takes it out, and mends the list of sums and of records, has a package that nobody allowed."""
    identity = json.loads(contents["bundle.json"])
    del identity["records"]["gate_override"]
    kept = {name: data for name, data in contents.items() if name not in {"records/gate_override.json", "SHA256SUMS"}}
    kept["bundle.json"] = canonical_json(identity)
    problems = dict(verifier.verify({**kept, "SHA256SUMS": write_sums(kept)}))
    assert problems["records/onnx_package.json"] == "its model was rejected, and nobody let it through"


def test_the_verbs_show_it_and_refuse_what_is_incomplete(home, tmp_path):
    """As a person types them: with a name and a reason, of a rejected model."""
    shutil.copytree(home.root, tmp_path / "home")

    def petpark(*words):
        command = [sys.executable, "-m", "petpark_assets.cli", *words, "--home", str(tmp_path / "home")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    refused = petpark("registry", "override", SECOND, "--by", "olga", "--because", BECAUSE)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "nothing to override" in refused.stderr
    assert petpark("registry", "override", REJECTED, "--by", "olga").returncode == 2
    report = trail.read_trail(home.store, "v0002", REJECTED).documents["evaluation_report"].digest
    done = petpark("registry", "override", report[:12], "--by", "olga", "--because", BECAUSE, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["attempt"], document["evaluation_report"], document["by"]) == (REJECTED, report, "olga")
    shown = petpark("audit", "rejected").stdout
    assert "olga" in shown
