"""Claims about `petpark audit verify`: what is changed, dropped, reordered, cut off or swapped is found and named."""

import json
import sqlite3

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.audit import proof
from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.home import open_home
from petpark_assets.domain.ledger import FileLedger
from petpark_assets_tests.domain.audit.drawn_home import FIRST, REJECTED, SECOND


def _broken(home):
    """The claims that do not hold, and all that is said about them."""
    document = proof.verify(home)
    assert document["is_sound"] == (not document["offending"])
    told = " ".join(f"{row['where']}: {row['detail']}" for row in document["offending"])
    return {claim for claim in proof.CLAIMS if document[claim]}, told


def _forge_record(path, **changes):
    """Change a record and give it a digest that fits: what a careful forger does."""
    document = json.loads(path.read_bytes())
    document["content"] |= changes
    document["digest"] = files.digest(document["content"])
    path.write_bytes(files.canonical_json(document))


def test_a_home_as_it_was_made_is_sound(home):
    """Else every other finding below could be an accident; and what is not covered is said."""
    document = proof.verify(home)
    assert document["offending"] == []
    assert document["is_sound"]
    assert (document["num_registered"], document["num_records"]) == (2, 6 + 3 * 4 + 2 * 2)
    assert document["num_events_not_covered"] == 1, "the promotion came after everything that remembers the ledger"


def test_an_empty_home_is_refused(tmp_path):
    """A mistyped --home must not look like a sound one."""
    with pytest.raises(NotFound, match="right one"):
        proof.verify(open_home(tmp_path / "nothing", actor="eve"))


def test_any_flipped_byte_of_the_ledger_is_found_and_its_line_named(copy):
    """Every 97th byte: of numbers, names, digests, line ends."""
    path = copy.root / "ledger.jsonl"
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = proof._read_ledger(copy)[1]
        assert [finding.claim for finding in found] == ["ledger_is_chained"], place
        assert "line" in found[0].detail


@pytest.mark.parametrize(
    "spoil", [lambda lines: lines[:3] + lines[4:], lambda lines: lines[:2] + lines[3:1:-1] + lines[4:]]
)
def test_a_dropped_or_reordered_line_is_found(copy, spoil):
    """Each of them leaves whole lines alone; only the chain shows it."""
    path = copy.root / "ledger.jsonl"
    path.write_bytes(b"".join(spoil(path.read_bytes().splitlines(keepends=True))))
    claims, told = _broken(copy)
    assert "ledger_is_chained" in claims
    assert "does not follow" in told


def test_a_tail_that_was_cut_off_is_found_up_to_the_newest_witness(copy):
    """The chain of what is left is unbroken: only what remembers the cut events can tell."""
    path = copy.root / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert _broken(copy)[0] == {"aliases_are_as_told"}, "the promotion came after the newest witness, but for the alias"
    path.write_bytes(b"".join(lines[:-4]))
    claims, told = _broken(copy)
    assert "ledger_reaches_its_witnesses" in claims
    assert f"registered_model/v0002/{SECOND}.json" in told


def test_a_tail_that_was_rewritten_is_found(copy):
    """A forger with the program itself: another verdict, and everything after it anew, in a perfect chain."""
    path = copy.root / "ledger.jsonl"
    events = list(copy.ledger.events())
    path.unlink()
    forged = FileLedger(path, "mia")
    for event in events:
        is_no = event.event == "verdict" and not event.subject["is_accepted"]
        forged.append(event.event, {**event.subject, "is_accepted": True} if is_no else event.subject)
    forged.verify()
    claims, told = _broken(copy)
    assert claims == {"ledger_reaches_its_witnesses"}
    assert "registered version 2" in told


def test_a_changed_record_is_named(copy, attempt_file):
    """A flipped digit of an accuracy, with the old digest left as it was."""
    path = attempt_file("evaluation_report", REJECTED)
    path.write_bytes(path.read_bytes().replace(b'"accuracy":0.5', b'"accuracy":0.9', 1))
    claims, told = _broken(copy)
    assert claims == {"records_are_whole"}
    assert path.name in told


def test_a_forged_verdict_is_found_by_its_children_and_the_ledger(copy, attempt_file):
    """Its digest fits; its package, the registry's tag and the ledger's event still name the one that was."""
    _forge_record(attempt_file("evaluation_report", FIRST), verdict="accepted: by me")
    assert {"records_are_whole", "records_follow_each_other", "registry_is_whole"} <= _broken(copy)[0]


def test_a_package_without_a_yes_is_found(copy, attempt_file):
    """Whatever let it be made: the gate is read again here."""
    _forge_record(attempt_file("evaluation_report", FIRST), is_accepted=False)
    assert "verdict_is_obeyed" in _broken(copy)[0]


def test_a_rejection_that_was_removed_is_found(copy, attempt_file):
    """Nothing follows from a rejected report: only the ledger knows that there was one."""
    path = attempt_file("evaluation_report", REJECTED)
    path.unlink()
    claims, told = _broken(copy)
    assert claims == {"records_are_whole"}
    assert REJECTED in told


@pytest.mark.parametrize("asset", ["raw_images", "trained_cnn", "evaluation_report", "onnx_package"])
def test_every_file_that_a_record_names_is_read(copy, asset):
    """One byte more at the end of each, one at a time."""
    folder = copy.root / "store" / asset
    named = [path for pattern in ("*/*/*", "*/*.parquet", "*/*.safetensors") for path in folder.glob(pattern)]
    assert named
    for path in named:
        whole = path.read_bytes()
        path.write_bytes(whole + b" ")
        claims, told = _broken(copy)
        assert "files_are_whole" in claims
        assert path.name in told
        path.write_bytes(whole)


def test_members_that_the_manifest_does_not_have_are_found(copy):
    """A split that claims other photos, with a digest that fits."""
    _forge_record(copy.root / "store" / "test_split" / "v0001.json", members="0" * 64)
    assert "splits_are_the_manifests" in _broken(copy)[0]


def test_a_file_swapped_in_the_registry_is_found(copy):
    """What would be deployed lies there, not in the store."""
    path = next(copy.root.glob("mlflow/artifacts/**/model.onnx"))
    path.write_bytes(b"another")
    claims, told = _broken(copy)
    assert claims == {"registry_is_whole"}
    assert "model.onnx" in told


def test_a_registered_version_that_names_another_package_is_found(copy):
    """Somebody with access to MLflow's database swaps what a version stands for."""
    sums = [copy.registry.show(number).package for number in (1, 2)]
    with sqlite3.connect(copy.root / "mlflow" / "mlflow.db") as database:
        database.execute(
            "update model_version_tags set value = ? where key = 'package' and value = ?", (sums[0], sums[1])
        )
    database.close()
    claims, told = _broken(copy)
    assert "registry_is_whole" in claims
    assert "registered version 2" in told


def test_an_alias_that_was_moved_by_hand_is_found(copy):
    """What classifies is what MLflow's alias names: whoever can write there could put any version into production."""
    reigning = copy.registry.show("champion").version
    copy.registry._store.set_alias("champion", 3 - reigning)
    claims, told = _broken(copy)
    assert claims == {"aliases_are_as_told"}
    assert "alias champion" in told
    assert f"promote version {reigning} again" in told
    copy.registry.promote(reigning, by="ann", because="nobody told the other")
    assert proof.verify(copy)["is_sound"], "the remedy is none"


def test_a_promotion_that_was_told_and_never_made_is_found(copy):
    """It is told first: MLflow may go away between the two, and the person after it."""
    reigning = copy.registry.show("champion").version
    move = {"model": "pet-classifier", "version": 3 - reigning, "alias": "champion", "previous_version": reigning}
    copy.ledger.append("alias_moved", {**move, "by": "ann", "because": "it is better"})
    claims, told = _broken(copy)
    assert claims == {"aliases_are_as_told"}
    assert f"it names version {reigning}, its last move in the ledger version {3 - reigning}" in told
