"""Model testing: the exam on data the model never saw, the report, and the verdict that everything after obeys.

How many models were evaluated on a test side is history, not part of what an exam found: it stands in the record's
circumstances and on the page that is drawn for people, where it is counted anew, and changes no digest.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import images
from petpark_assets.domain.attempts import Attempt, require_same_code
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import (
    digest,
    folder_key,
    get_verified,
    has_record,
    put,
    read_record,
    replace,
    sha256,
    write_record,
)
from petpark_assets.domain.home import Home, page_path
from petpark_assets.domain.lake import tombstones
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.records import (
    EvaluationReport,
    FeatureScaling,
    HyperparameterSearch,
    RawImages,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)  # fmt: skip
from petpark_assets.domain.registry import decisions
from petpark_assets.domain.workflow import ingestion
from petpark_assets.domain.workflow.sides import (
    Side,
    count_by_label,
    count_models_evaluated,
    note_opening,
    open_side,
    read_manifest,
)
from petpark_assets.domain.workflow.training import read_weights

if TYPE_CHECKING:
    from petpark_assets.domain.report.gallery import WrongPhoto
    from petpark_assets.domain.report.metrics import Evaluation
    from petpark_assets.domain.report.page import ReportContext
    from petpark_assets.domain.report.slices import Slice


def evaluation_report(home: Home, attempt: Attempt) -> EvaluationReport:
    """Examine the network on the test side and write the report, whatever the verdict is.

    Raises InvalidInput when the sides leak: nothing is opened then, and there is no verdict.
    """
    version, targets = attempt.dataset_version, attempt.recipe.targets
    if has_record(home.store, EvaluationReport, version, attempt.id):
        return read_record(home.store, EvaluationReport, version, attempt.id)
    from petpark_assets.domain.report import comparison, metrics
    from petpark_assets.domain.workflow import champion

    require_same_code(attempt)
    with home.noting() as circumstances:
        model = read_record(home.store, TrainedCnn, version, attempt.id)
        ingestion.require_no_leaks(home, version, attempt.recipe.resolution_px)
        side = open_test_side(home, attempt, model, purpose="evaluation")
        probabilities = open_network(home, model)(side.images)
        slices = _slices(home, version, side)
        evaluation = metrics.evaluate(
            side.labels, probabilities, targets, unknown_below=model.unknown_below, slices=slices
        )
        beside = champion.compare(home, version, side, probabilities, slices)
        evaluation = evaluation if beside is None else comparison.judged(evaluation, beside)
        files = _draw_files(home, attempt, side, probabilities, evaluation)
        record = EvaluationReport(
            dataset_version=version,
            attempt=attempt.id,
            trained_cnn=digest(model),
            test_split=digest(read_record(home.store, TestSplit, version)),
            is_accepted=evaluation.is_accepted,
            verdict=evaluation.verdict,
            targets=asdict(targets),
            default_targets=asdict(Targets()),
            metrics=evaluation.metrics,
            files={
                name: put(home.store, _report_key(version, attempt.id, name, sha256(data)), data)
                for name, data in files.items()
            },
            forgotten=tuple(side.forgotten),
            comparison=evaluation.comparison,
        )
        # The event first: a crash between the two leaves it twice, never missing.
        verdict = {"is_accepted": record.is_accepted, "verdict": record.verdict, "evaluation_report": digest(record)}
        home.ledger.append("verdict", {"dataset_version": version, "attempt": attempt.id, **verdict})
        num_models = {"num_models_evaluated": count_models_evaluated(home)}
        write_record(home.store, record, {**circumstances(), **num_models})
    return record


def _slices(home: Home, version: str, side: Side) -> "list[Slice]":
    """The slices of an opened test side, by what ingestion measured of its photos."""
    from petpark_assets.domain.report import slices

    manifest = read_manifest(home, version)
    photos = manifest.filter(pc.equal(manifest["split"], "test"))
    photos = photos.take(pc.index_in(pa.array(side.sha256s, pa.string()), photos["sha256"].combine_chunks()))
    brightness, sharpness, width_px, height_px = (
        np.asarray(photos[name], dtype=np.float64) for name in ("brightness", "sharpness", "width_px", "height_px")
    )
    measured = {"brightness": brightness, "sharpness": sharpness, "size": width_px * height_px}
    return slices.cut(side.labels, measured)


def open_test_side(
    home: Home, attempt: Attempt, model: TrainedCnn, *, purpose: str, replayed_weights: str | None = None
) -> Side:
    """The test side, to ask a model about it, or other weights that a replay came to; noted in the ledger first."""
    asked = {"attempt": attempt.id, "trained_cnn": digest(model)}
    other = {} if replayed_weights is None else {"replayed_weights": replayed_weights}
    note_opening(home, attempt.dataset_version, asked | other, purpose=purpose)
    return open_side(home, attempt.dataset_version, "test", attempt.recipe.resolution_px)


def open_network(home: Home, model: TrainedCnn, *, device: str = "auto") -> Callable[[np.ndarray], np.ndarray]:
    """The trained network as a function: pixels uint8 [N, R, R, 3] to the probability of dog, float32 [N]."""
    from petpark_assets.domain.model.prediction import predict
    from petpark_assets.domain.model.weights import load_classifier

    classifier = load_classifier(read_weights(home, model))
    return lambda pixels: predict(classifier, pixels, device=device)


def read_report_file(home: Home, record: EvaluationReport, name: str) -> bytes:
    """A file of the report (`report.html`, ...), checked against its record."""
    key = _report_key(record.dataset_version, record.attempt, name, record.files[name])
    if not home.store.exists(key):  # stored before the names had digests
        key = f"{folder_key('evaluation_report', record.dataset_version, record.attempt)}/{name}"
    return get_verified(home.store, key, record.files[name])


def reported_accuracy(home: Home, record: EvaluationReport, side: Side) -> float:
    """The report's accuracy over the photos of an opened side, by its stored answers: some were forgotten since.

    Raises InvalidInput when all were.
    """
    from petpark_assets.domain.report.metrics import THRESHOLD
    from petpark_assets.domain.report.predictions import read_predictions

    if not side.sha256s:
        raise InvalidInput(
            f"all photos that attempt {record.attempt} was examined on are forgotten, so nothing can be proved of its "
            "package: train and examine another on a newer version"
        )
    answers = read_predictions(read_report_file(home, record, "predictions.parquet"))
    is_right = (answers.probabilities >= THRESHOLD) == answers.labels
    return float(is_right[np.isin(answers.sha256s, side.sha256s)].mean())


def draw_page(home: Home, attempt: Attempt) -> Path:
    """Draw the report with the most wrong photos in it into the home's reports, for people; it can be drawn again."""
    from petpark_assets.domain.report import gallery, page
    from petpark_assets.domain.report.metrics import Evaluation
    from petpark_assets.domain.report.predictions import read_predictions

    record = read_record(home.store, EvaluationReport, attempt.dataset_version, attempt.id)
    answers = read_predictions(read_report_file(home, record, "predictions.parquet"))
    evaluation = Evaluation(
        metrics=record.metrics, is_accepted=record.is_accepted, verdict=record.verdict, comparison=record.comparison
    )
    wrong = gallery.most_wrong(answers.sha256s, answers.labels, answers.probabilities)
    context = _report_context(home, attempt, evaluation, wrong, record.forgotten)
    num_models = count_models_evaluated(home)
    override = decisions.overrides(home.ledger.events()).get(attempt.id)
    said = None if override is None else decisions.sentence(override)
    target, known = page_path(home, attempt), None
    while known != (known := tombstones.forgotten(home.store)):  # drawn again when one was forgotten meanwhile
        shown = [photo.sha256 for photo in wrong if photo.sha256 not in known]
        photos = thumbnails(home, shown)
        replace(target, page.render(context, photos, num_models_evaluated=num_models, override=said))
    return target


def _draw_files(
    home: Home, attempt: Attempt, side: Side, probabilities: np.ndarray, evaluation: "Evaluation"
) -> dict[str, bytes]:
    """The files that are part of the record, and may go into a package: no photo is in them."""
    from petpark_assets.domain.report import gallery, page
    from petpark_assets.domain.report.predictions import predictions_parquet

    wrong = gallery.most_wrong(side.sha256s, side.labels, probabilities)
    context = _report_context(home, attempt, evaluation, wrong, tuple(side.forgotten))
    return {
        "report.html": page.render(context),
        "report.json": page.report_json(context),
        "predictions.parquet": predictions_parquet(side.sha256s, side.labels, probabilities),
    }


def _report_context(
    home: Home,
    attempt: Attempt,
    evaluation: "Evaluation",
    wrong: "Sequence[WrongPhoto]",
    forgotten: Sequence[str],
) -> "ReportContext":
    from petpark_assets.domain.report.page import ReportContext

    version = attempt.dataset_version
    return ReportContext(
        raw_images=read_record(home.store, RawImages, version),
        train_split=read_record(home.store, TrainSplit, version),
        test_split=read_record(home.store, TestSplit, version),
        feature_scaling=read_record(home.store, FeatureScaling, version, attempt.id),
        hyperparameter_search=read_record(home.store, HyperparameterSearch, version, attempt.id),
        trained_cnn=read_record(home.store, TrainedCnn, version, attempt.id),
        evaluation=evaluation,
        targets=attempt.recipe.targets,
        most_wrong=tuple(wrong),
        forgotten_by_label=count_by_label(home, version, forgotten),
    )


def thumbnails(home: Home, sha256s: Sequence[str]) -> dict[str, bytes]:
    """Small JPEGs of photos, without those whose original is no longer kept, or was damaged."""
    from petpark_assets.domain.report import gallery

    pictures: dict[str, bytes] = {}
    for photo, data in home.originals.find(sha256s):
        with suppress(images.UnreadablePhoto):
            pictures |= {} if data is None else {photo: gallery.thumbnail(images.decode(data))}
    return pictures


def _report_key(dataset_version: str, attempt: str, name: str, digest_of_file: str) -> str:
    """Named by content: after a crash before the record there may be another champion, and so another report."""
    folder = folder_key("evaluation_report", dataset_version, attempt)
    return f"{folder}/{digest_of_file[:12]}-{name}"
