"""Claims about the gate: it opens for exactly the bytes that were examined, or by a person's word about just these.

On the audit's drawn home: records, ledger and registry are real; only photos and networks never were.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.audit import proof
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, ModelRejected, NotFound
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.package.contents import write_sums
from petpark_assets.domain.records import EvaluationReport, GateOverride, OnnxPackage, RegisteredModel
from petpark_assets.domain.registry.versions import history
from petpark_assets.domain.workflow import gate, packaging, registration
from petpark_assets_tests.domain.audit import drawn_home
from petpark_assets_tests.domain.audit.drawn_home import FIRST, REJECTED, SECOND

BECAUSE = "the <park> opens on Monday"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """To be left as it was."""
    return drawn_home.build(tmp_path_factory.mktemp("gate") / "home")


@pytest.fixture
def copy(home: Home, tmp_path: Path) -> Home:
    """A home to decide in."""
    shutil.copytree(home.root, tmp_path / "home")
    return open_home(tmp_path / "home", actor="eve")


def _named(attempt: str, version: str = "v0002") -> SimpleNamespace:
    return SimpleNamespace(id=attempt, dataset_version=version)


def _forge(data: bytes, **changes) -> bytes:
    """A record with other content, and a digest that fits."""
    document = json.loads(data)
    document["content"] |= changes
    document["digest"] = files.digest(document["content"])
    return files.canonical_json(document)


def _one_more(data: bytes) -> bytes:
    return data + b" "


@dataclass(frozen=True)
class Swap:
    """A file of SECOND, and what somebody with access to the disk makes of it."""

    pattern: str
    change: Callable[[bytes], bytes] = _one_more


SWAPS = {
    "the weights": Swap(f"store/trained_cnn/*/{SECOND}/weights-*"),
    "the model's record": Swap(f"store/trained_cnn/*/{SECOND}.json", lambda data: _forge(data, seed=7)),
    "the report's numbers": Swap(
        f"store/evaluation_report/*/{SECOND}.json", lambda data: _forge(data, metrics={"accuracy": 0.99})
    ),
    "the verdict": Swap(
        f"store/evaluation_report/*/{SECOND}.json", lambda data: _forge(data, verdict="accepted: by me")
    ),
    "the report's page": Swap(f"store/evaluation_report/*/{SECOND}/*-report.html"),
    "the predictions": Swap(f"store/evaluation_report/*/{SECOND}/*-predictions.parquet"),
    "the data's record": Swap("store/test_split/v0002.json", lambda data: _forge(data, members="0" * 64)),
    "the package's record": Swap(
        f"store/onnx_package/*/{SECOND}.json", lambda data: _forge(data, parity={"proved": "no"})
    ),
}
"""Each is refused by packaging, registration and promotion alike."""
PACKAGED = {
    "the ONNX file": Swap(f"store/onnx_package/*/{SECOND}/model.onnx"),
    "the package's metadata": Swap(f"store/onnx_package/*/{SECOND}/package.json"),
    "the package's sums": Swap(f"store/onnx_package/*/{SECOND}/SHA256SUMS"),
}
"""These by registration and promotion; of a package that is made already, a blocking check names them."""
STEPS = {
    "packaging": lambda home: packaging.onnx_package(home, _named(SECOND)),
    "registration": lambda home: registration.registered_model(home, _named(SECOND)),
    "promotion": lambda home: registration.promote(home, "2", by="mia", because="a reason"),
}


@contextmanager
def _swapped(home: Home, pattern: str, change: Callable[[bytes], bytes]):
    (path,) = home.root.glob(pattern)
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    try:
        yield path
    finally:
        path.write_bytes(whole)


# ---- swapped files


@pytest.mark.parametrize("step", STEPS)
def test_what_was_left_alone_passes(home, step):
    """Else every refusal below could be an accident."""
    STEPS[step](home)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", SWAPS)
def test_nothing_goes_on_once_anything_was_swapped(home, what, step):
    """The verdict was about these bytes: of any others nobody knows what they answer."""
    with _swapped(home, SWAPS[what].pattern, SWAPS[what].change), pytest.raises(CorruptData):
        STEPS[step](home)


@pytest.mark.parametrize("step", ["registration", "promotion"])
@pytest.mark.parametrize("what", PACKAGED)
def test_a_swapped_package_goes_no_further(home, what, step):
    """And the file is named."""
    with _swapped(home, PACKAGED[what].pattern, PACKAGED[what].change) as path:
        with pytest.raises(CorruptData, match=path.name):
            STEPS[step](home)
        assert path.name in packaging.find_damage(home, _named(SECOND))


def test_a_missing_file_is_as_good_as_a_swapped_one(home, tmp_path):
    """Who deletes the weights deletes the evidence."""
    (path,) = home.root.glob(SWAPS["the weights"].pattern)
    path.rename(tmp_path / "weights")
    try:
        with pytest.raises(NotFound, match="weights"):
            STEPS["promotion"](home)
    finally:
        (tmp_path / "weights").rename(path)


def test_a_whole_package_that_nobody_announced_goes_no_further(copy):
    """A careful forger: another ONNX file, new sums, a new record, every digest fits; only the ledger knows better."""
    folder = copy.root / "store" / "onnx_package" / "v0002" / SECOND
    (folder / "model.onnx").write_bytes(b"a model of mine")
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "SHA256SUMS"}
    (folder / "SHA256SUMS").write_bytes(write_sums(kept))
    sums = {path.name: files.sha256_file(path) for path in folder.iterdir()}
    record = folder.with_suffix(".json")
    record.write_bytes(_forge(record.read_bytes(), files=sums))
    (copy.root / "store" / "registered_model" / "v0002" / f"{SECOND}.json").unlink()
    for step in STEPS.values():
        with pytest.raises(CorruptData, match="the ledger's package_made"):
            step(copy)


def test_a_rejection_turned_into_a_yes_does_not_open_the_gate(copy):
    """Nothing follows from a rejected report yet, so its own digest can be made to fit: the ledger has the verdict."""
    (path,) = copy.root.glob(f"store/evaluation_report/*/{REJECTED}.json")
    path.write_bytes(_forge(path.read_bytes(), is_accepted=True, verdict="accepted: every target is reached"))
    with pytest.raises(CorruptData, match="the ledger's verdict"):
        packaging.onnx_package(copy, _named(REJECTED))


def test_a_file_swapped_in_the_registry_is_not_promoted(home):
    """What would answer lies there, not in the store."""
    (run_id,) = [known.run_id for known in home.registry.list_versions() if known.version == 2]
    with (
        _swapped(home, f"mlflow/artifacts/{run_id}/artifacts/package/model.onnx", _one_more),
        pytest.raises(CorruptData, match=r"model\.onnx of version 2"),
    ):
        STEPS["promotion"](home)


@pytest.mark.parametrize("tag", ["package", "evaluation_report"])
def test_a_version_that_names_another_package_or_report_is_not_promoted(copy, tag):
    """Somebody with access to MLflow's database swaps what a number stands for."""
    first, second = (copy.registry.show(number).tags[tag] for number in (1, 2))
    with sqlite3.connect(copy.root / "mlflow" / "mlflow.db") as database:
        database.execute("update model_version_tags set value = ? where key = ? and value = ?", (first, tag, second))
    database.close()
    with pytest.raises(CorruptData, match=f"tagged with {tag}"):
        STEPS["promotion"](copy)


def test_a_whole_package_that_somebody_put_under_another_number_is_neither_downloaded_nor_promoted(copy, tmp_path):
    """Files, sums and tag fit each other, so the registry itself sees nothing; what is deployed must be what passed."""
    found = copy.registry.show(2)
    folder = copy.root / "mlflow" / "artifacts" / found.run_id / "artifacts" / "package"
    (folder / "model.onnx").write_bytes(b"a model of mine")
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "SHA256SUMS"}
    (folder / "SHA256SUMS").write_bytes(write_sums(kept))
    package = files.sha256(write_sums(kept))
    with sqlite3.connect(copy.root / "mlflow" / "mlflow.db") as database:
        database.execute("update model_version_tags set value = ? where value = ?", (package, found.package))
    database.close()
    assert copy.registry.download(2, tmp_path / "unseen")
    for refuse in (
        STEPS["promotion"],
        lambda home: registration.download(home, "2", tmp_path / "out"),
        lambda home: registration.classify(home, [], "champion"),
    ):
        with pytest.raises(CorruptData, match=r"version 2|the ledger's model_registered"):
            refuse(copy)
    assert not (tmp_path / "out").exists()


def test_a_rule_makes_no_champion_of_swapped_bytes_either(copy):
    """A run that died between registration and the rule leaves time for it."""
    path = copy.root / "store" / "registered_model" / "v0002" / f"{SECOND}.json"
    path.unlink()
    (run_id,) = [known.run_id for known in copy.registry.list_versions() if known.version == 2]
    for alias in ("candidate", "champion"):
        copy.registry._store._client.set_registered_model_alias(copy.registry.model_name, alias, "1")
    with (
        _swapped(copy, f"mlflow/artifacts/{run_id}/artifacts/package/model.onnx", _one_more),
        pytest.raises(CorruptData, match=r"model\.onnx"),
    ):
        registration.registered_model(copy, _named(SECOND))


# ---- overrides


@pytest.fixture(scope="module")
def overridden(home, tmp_path_factory) -> Home:
    """A home in which olga let the rejected model through, and it was packaged and registered."""
    return drawn_home.let_through(home, tmp_path_factory.mktemp("overridden"), BECAUSE)


def test_an_overridden_model_is_registered_and_says_so_everywhere_in_the_registry(overridden):
    """In its record, its package, MLflow's tags, the list and the history."""
    word = files.read_record(overridden.store, GateOverride, "v0002", REJECTED)
    report = files.read_record(overridden.store, EvaluationReport, "v0002", REJECTED)
    assert (word.by, word.because, word.evaluation_report) == ("olga", BECAUSE, files.digest(report))
    for kind in (OnnxPackage, RegisteredModel):
        assert files.read_record(overridden.store, kind, "v0002", REJECTED).gate_override == files.digest(word)
    tags = overridden.registry.show(3).tags
    assert (tags["overridden_by"], tags["overridden_because"]) == ("olga", BECAUSE)
    assert tags["gate_override"] == files.digest(word)
    rows = registration.describe_models(overridden)
    assert [row["overridden_by"] for row in rows] == [None, None, "olga"]
    assert registration.describe_model(overridden, "3")["overridden_because"] == BECAUSE
    assert [row["by"] for row in history(overridden.ledger.events()) if row["event"] == "gate_overridden"] == ["olga"]


def test_an_overridden_model_is_champion_only_by_a_persons_word(overridden):
    """It waits as candidate, and says why; whoever promotes it is told what it is."""
    assert overridden.registry.resolve("champion") == 2
    assert "rejected, and let through by olga" in registration.succession(overridden, 3)
    told = registration.promote(overridden, "candidate", by="mia", because="olga is right")
    assert (told["champion"], told["overridden_by"]) == (3, "olga")


def test_an_overridden_model_is_not_champion_even_where_there_is_none(tmp_path):
    """The first model of a park must not be one that failed."""
    home = open_home(tmp_path / "home", actor="mia")
    drawn_home.add_version(home, "v0001", [drawn_home.photo(number) for number in range(20)])
    drawn_home.add_model(home, "v0001", FIRST, accuracy=0.5, is_accepted=False)
    gate.let_through(home, "v0001", FIRST, by="olga", because=BECAUSE)
    drawn_home.register(home, "v0001", FIRST)
    assert home.registry.show(1).aliases == ("candidate",)


def test_the_whole_is_sound_with_an_override_and_not_without_its_event(overridden, copy):
    """The proof of the whole chain knows that a person may let a model through, and asks the ledger who."""
    assert proof.verify(overridden)["offending"] == []
    shutil.copytree(overridden.root / "store", copy.root / "store", dirs_exist_ok=True)
    document = proof.verify(copy)
    assert document["verdict_is_obeyed"] == 2, "its package and its registration"


def test_an_override_is_for_exactly_one_model(copy):
    """A word about one attempt, or one that was moved to another, opens nothing else."""
    word = gate.let_through(copy, "v0002", REJECTED, by="olga", because=BECAUSE)
    (path,) = copy.root.glob(f"store/gate_override/*/{REJECTED}.json")
    path.write_bytes(_forge(path.read_bytes(), because="no reason"))
    with pytest.raises(CorruptData, match="the ledger's gate_overridden"):
        gate.pass_gate(copy, "v0002", REJECTED)
    path.write_bytes(_forge(path.read_bytes(), because=BECAUSE, evaluation_report="0" * 64))
    with pytest.raises(CorruptData, match="another report"):
        gate.pass_gate(copy, "v0002", REJECTED)
    path.write_bytes(_forge(path.read_bytes(), evaluation_report=word.evaluation_report))
    assert gate.pass_gate(copy, "v0002", REJECTED).gate_override == word


def test_a_swapped_model_is_not_let_through(copy):
    """Who overrides says yes to what was examined, not to whatever lies there now."""
    with (
        _swapped(copy, f"store/trained_cnn/*/{REJECTED}/weights-*", _one_more),
        pytest.raises(CorruptData, match="weights"),
    ):
        gate.let_through(copy, "v0002", REJECTED, by="olga", because=BECAUSE)
    assert not files.has_record(copy.store, GateOverride, "v0002", REJECTED)


@pytest.mark.parametrize(("by", "because"), [("", "a reason"), ("olga", " \n"), ("olga", "so " * 1000)])
def test_an_override_needs_a_name_and_a_reason_that_can_be_read(copy, by, because):
    """An auditor asks who and why; a page must be able to show it."""
    with pytest.raises(InvalidInput, match="an override of the gate"):
        gate.let_through(copy, "v0002", REJECTED, by=by, because=because)


def test_an_accepted_model_needs_no_override(copy):
    """A word that lifts nothing would only hide who decided: the exam did."""
    with pytest.raises(InvalidInput, match="nothing to override"):
        gate.let_through(copy, "v0002", SECOND, by="olga", because=BECAUSE)


def test_the_same_word_again_is_one_and_another_is_refused(copy):
    """Who overrode first is not written over; and a crash after the event is mended by the same command."""
    gate.let_through(copy, "v0002", REJECTED, by="olga", because=BECAUSE)
    gate.let_through(copy, "v0002", REJECTED, by="olga", because=f" {BECAUSE} ")
    assert len([event for event in copy.ledger.events() if event.event == "gate_overridden"]) == 1
    with pytest.raises(Conflict, match="let through before, by olga"):
        gate.let_through(copy, "v0002", REJECTED, by="mia", because=BECAUSE)
    (path,) = copy.root.glob(f"store/gate_override/*/{REJECTED}.json")
    path.unlink()
    with pytest.raises(ModelRejected):
        gate.pass_gate(copy, "v0002", REJECTED)
    gate.let_through(copy, "v0002", REJECTED, by="olga", because=BECAUSE)
    assert gate.pass_gate(copy, "v0002", REJECTED).gate_override.by == "olga"
