"""Model registration: a package becomes an immutable version that can be downloaded and deployed.

What may pass is gate.py's matter, at each step anew.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.errors import CorruptData, PermanentError
from petpark_assets.domain.files import digest, has_record, read_record, write_record
from petpark_assets.domain.home import Home
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets.domain.records import OnnxPackage, RegisteredModel
from petpark_assets.domain.registry import decisions
from petpark_assets.domain.registry.mlflow_store import RegisteredVersion
from petpark_assets.domain.registry.versions import CANDIDATE
from petpark_assets.domain.workflow import gate
from petpark_assets.domain.workflow.packaging import package_folder


def registered_model(home: Home, attempt: Attempt) -> RegisteredModel:
    """Register the package of a model that passes the gate, and let the aliases follow.

    Raises ModelRejected on any other, CorruptData when the package is not the one that was made of this model.
    """
    version = attempt.dataset_version
    lineage = gate.pass_gate(home, version, attempt.id)
    package = gate.find_package(home, lineage)
    if has_record(home.store, RegisteredModel, version, attempt.id):
        return _read_registered(home, package)
    with home.noting() as circumstances:
        tags = {"onnx_package": digest(package), "run_id": home.run_id or "none"}
        model_version = home.registry.register(package_folder(home, attempt), tags=tags)
        home.registry.settle_aliases(model_version, lambda found, champion: _judge(home, found, champion))
        record = RegisteredModel(
            dataset_version=version,
            attempt=attempt.id,
            onnx_package=digest(package),
            evaluation_report=package.evaluation_report,
            gate_override=package.gate_override,
            model_name=home.registry.model_name,
            model_version=model_version,
        )
        write_record(home.store, record, circumstances())
    return record


def _read_registered(home: Home, package: OnnxPackage) -> RegisteredModel:
    record = read_record(home.store, RegisteredModel, package.dataset_version, package.attempt)
    if record.onnx_package != digest(package):
        raise CorruptData(f"attempt {package.attempt} was registered with another package than the one that is stored")
    return record


def _judge(home: Home, found: RegisteredVersion, champion: RegisteredVersion | None) -> tuple[bool, str]:
    """Whether a version becomes champion by rule: never by an override, and only as the bytes that were examined."""
    from petpark_assets.domain.report import comparison

    lineage = gate.require_registered(home, found)
    if lineage.gate_override is not None:
        return False, f"it was rejected, and let through by {lineage.gate_override.by}"
    if champion is None:
        return True, "there was no champion"
    return comparison.is_clearly_better(lineage.evaluation_report.comparison, champion.package)


def succession(home: Home, model_version: int) -> str:
    """What the rule of succession said about a version, in one line: by the ledger."""
    subjects = [event.subject for event in home.ledger.events() if event.event == "alias_moved"]
    said = [move["because"] for move in subjects if move["alias"] == CANDIDATE and move["version"] == model_version]
    return said[-1] if said else "it has not met the rule yet"


def find_damage(home: Home, attempt: Attempt) -> str | None:
    """What keeps a registered version from being downloaded, in one line; None when it comes whole and verified."""
    try:
        record = read_record(home.store, RegisteredModel, attempt.dataset_version, attempt.id)
        with tempfile.TemporaryDirectory() as folder:
            home.registry.fetch(record.model_version, Path(folder))
    except PermanentError as error:
        return str(error)
    return None


def describe_models(home: Home) -> list[dict[str, Any]]:
    """Every registered version, oldest first, a row each."""
    overrides = decisions.overrides(home.ledger.events())
    return [_row(known, overrides.get(known.tags["attempt"])) for known in home.registry.list_versions()]


def describe_model(home: Home, model: str) -> dict[str, Any]:
    """One version with its files and the digest of every parent. Raises NotFound listing what there is."""
    known = home.registry.show(model)
    override = decisions.overrides(home.ledger.events()).get(known.tags["attempt"])
    files = home.registry.list_files(known.version)
    return {**known.tags, **_row(known, override), "package": known.package, "files": files}


def promote(home: Home, model: str, *, by: str, because: str) -> dict[str, Any]:
    """Make a version champion by a person's decision, which the ledger keeps.

    Raises:
        InvalidInput: without a name or a reason.
        NotFound: there is no such version.
        ModelRejected, CorruptData: it is not, byte for byte, what passed the gate.
    """
    by, because = decisions.require_signed(by, because, what="a promotion")
    found = home.registry.show(model)
    gate.require_registered(home, found)
    move = home.registry.promote(found.version, by=by, because=because)
    override = decisions.overrides(home.ledger.events()).get(found.tags["attempt"])
    told = {"champion": found.version, "is_moved": move is not None, "by": by, "because": because}
    return {**told, **decisions.told(override)}


def download(home: Home, model: str, to: Path, file: str | None = None) -> list[Path]:
    """Copy a version, or one file of it, out of the registry: Registry.download of what the ledger registered."""
    found = home.registry.show(model)
    gate.require_same_package(home, found)
    return home.registry.download(found.version, to, file)


def _row(known: RegisteredVersion, override: Event | None) -> dict[str, Any]:
    return {
        "version": known.version,
        "aliases": list(known.aliases),
        "accuracy": known.accuracy,
        "dataset_version": known.tags["dataset_version"],
        "recipe": known.tags["recipe"],
        "registered_at": known.registered_at,
        **decisions.told(override),
    }


def classify(home: Home, photos: Sequence[Path], model: str, *, variant: str = "float32") -> list[dict[str, Any]]:
    """Ask a registered version about photos; a row for each, with an error where one cannot be read.

    Raises:
        NotFound: there is no such model, or it has no such variant (`float32`, `int8`).
        CorruptData: its files were changed, or another package stands under its number than was registered.
    """
    found = home.registry.show(model)
    gate.require_same_package(home, found)
    predictor = Predictor.open(home.registry.fetch(found.version, home.cache / "models"), variant=variant)
    return [_answer(predictor, photo, found.version) for photo in photos]


def _answer(predictor: Predictor, photo: Path, model_version: int) -> dict[str, Any]:
    row = {"path": str(photo), "label": None, "probability": None, "is_unknown": None, "model_version": model_version}
    try:
        answer = predictor.classify(photo.read_bytes())
    except PermanentError as error:
        return {**row, "error": str(error)}
    except OSError as error:
        return {**row, "error": f"{photo} cannot be read: {error.strerror}"}
    found = {"label": answer.label, "probability": round(answer.probability, 4), "is_unknown": answer.is_unknown}
    return {**row, **found, "error": None}
