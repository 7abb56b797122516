"""Model registration: an accepted package becomes an immutable version that can be downloaded and deployed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.errors import CorruptData, PermanentError
from petpark_assets.domain.files import digest, has_record, read_record, sha256_file, write_record
from petpark_assets.domain.home import Home
from petpark_assets.domain.package.contents import SUMS, Lineage
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets.domain.records import EvaluationReport, OnnxPackage, RegisteredModel
from petpark_assets.domain.registry.mlflow_store import RegisteredVersion
from petpark_assets.domain.registry.versions import CANDIDATE, CHAMPION
from petpark_assets.domain.workflow.packaging import package_folder, read_lineage


def registered_model(home: Home, attempt: Attempt) -> RegisteredModel:
    """Register an accepted model's package, and let the aliases follow. Raises ModelRejected on any other."""
    version = attempt.dataset_version
    lineage = read_lineage(home, attempt)
    if has_record(home.store, RegisteredModel, version, attempt.id):
        return read_record(home.store, RegisteredModel, version, attempt.id)
    with home.noting() as circumstances:
        package = read_record(home.store, OnnxPackage, version, attempt.id)
        _require_recorded(home, attempt, package, lineage)
        tags = {"onnx_package": digest(package), "run_id": home.run_id or "none"}
        model_version = home.registry.register(package_folder(home, attempt), tags=tags)
        home.registry.settle_aliases(model_version, lambda found, champion: _compared(home, found, champion))
        record = RegisteredModel(
            dataset_version=version,
            attempt=attempt.id,
            onnx_package=digest(package),
            evaluation_report=digest(lineage.evaluation_report),
            model_name=home.registry.model_name,
            model_version=model_version,
        )
        write_record(home.store, record, circumstances())
    return record


def _require_recorded(home: Home, attempt: Attempt, package: OnnxPackage, lineage: Lineage) -> None:
    """Raises CorruptData unless the stored folder is the one recorded, and made from this model and this verdict."""
    folder, digests = package_folder(home, attempt), lineage.digests()
    if sha256_file(folder / SUMS) != package.files[SUMS]:
        raise CorruptData(f"the package in {folder} is not the one that was recorded: its {SUMS} was changed")
    for parent in ("trained_cnn", "evaluation_report"):
        if getattr(package, parent) != digests[parent]:
            raise CorruptData(
                f"the package of attempt {attempt.id} was made from another {parent}: it is not registered"
            )


def _compared(home: Home, found: RegisteredVersion, champion: RegisteredVersion) -> tuple[bool, str]:
    """Whether a version's own exam found it clearly better than the champion. Raises CorruptData on another exam."""
    from petpark_assets.domain.report import comparison

    report = read_record(home.store, EvaluationReport, found.tags["dataset_version"], found.tags["attempt"])
    if digest(report) != found.tags["evaluation_report"]:
        raise CorruptData(f"version {found.version} was registered with another report than the one that is stored")
    return comparison.is_clearly_better(report.comparison, champion.package)


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
    return [_row(known) for known in home.registry.list_versions()]


def describe_model(home: Home, model: str) -> dict[str, Any]:
    """One version with its files and the digest of every parent. Raises NotFound listing what there is."""
    known = home.registry.show(model)
    return {**known.tags, **_row(known), "package": known.package, "files": home.registry.list_files(known.version)}


def promote(home: Home, model: str, *, by: str, because: str) -> dict[str, Any]:
    """Make a version champion by a person's decision, which the ledger keeps. Raises InvalidInput, NotFound."""
    move = home.registry.promote(model, by=by, because=because)
    return {"champion": home.registry.resolve(CHAMPION), "is_moved": move is not None, "by": by, "because": because}


def _row(known: RegisteredVersion) -> dict[str, Any]:
    return {
        "version": known.version,
        "aliases": list(known.aliases),
        "accuracy": known.accuracy,
        "dataset_version": known.tags["dataset_version"],
        "recipe": known.tags["recipe"],
        "registered_at": known.registered_at,
    }


def classify(home: Home, photos: Sequence[Path], model: str, *, variant: str = "float32") -> list[dict[str, Any]]:
    """Ask a registered version about photos; a row for each, with an error where one cannot be read.

    Raises:
        NotFound: there is no such model, or it has no such variant (`float32`, `int8`).
        CorruptData: its files were changed.
    """
    model_version = home.registry.resolve(model)
    predictor = Predictor.open(home.registry.fetch(model_version, home.cache / "models"), variant=variant)
    return [_answer(predictor, photo, model_version) for photo in photos]


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
