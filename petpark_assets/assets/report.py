"""The exam: the report of a model on photos it never saw."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from petpark_assets.assets.metadata import OWNERS, materialized, override, picture, table
from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.audit import pages
from petpark_assets.domain.recipes import Recipe
from petpark_assets.domain.records import EvaluationReport
from petpark_assets.domain.workflow import retraining, testing
from petpark_assets.domain.workflow.sides import count_models_evaluated
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.reports import ReportPages
from petpark_assets.resources.retries import tried_again


@dg.asset(
    partitions_def=DATASET_VERSIONS,
    deps=["test_split", "trained_cnn"],
    group_name="testing",
    kinds={"scikitlearn", "html"},
    owners=OWNERS,
    code_version=code_version("report")[:12],
)
@tried_again
def evaluation_report(
    context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe, report_pages: ReportPages
) -> dg.MaterializeResult[None]:
    """Accuracy, precision, recall, and true and false positives and negatives on data the model never saw.

    With intervals, curves, calibration, the most wrong photos, and a comparison with the champion on the same photos,
    by slice too. The verdict is the gate: a rejected model is neither packaged nor registered, and the steps are
    repeated.
    """
    from petpark_assets.domain.report import figures

    opened = home.open(context.run)
    attempt = run_attempt(context, opened, recipe)
    record = testing.evaluation_report(opened, attempt)
    asked_again = retraining.file_request(opened, attempt)  # before pages, which a full disk may keep from being drawn
    page = testing.draw_page(opened, attempt)
    audit_page = pages.draw_page(opened, attempt)
    context.log.info(record.verdict)
    metrics = record.metrics
    return materialized(
        opened,
        record,
        {
            "attempt": attempt.id,
            **override(opened, attempt),
            "is_accepted": record.is_accepted,
            "verdict": record.verdict,
            "retraining": asked_again,
            "accuracy": metrics["accuracy"],
            "targets": table(
                {"measure": name, "asked": asked, "by default": record.default_targets[name]}
                for name, asked in record.targets.items()
            ),
            **_beside_the_targets(record, attempt.recipe),
            "models_evaluated_on_test_photos": count_models_evaluated(opened),
            "report": dg.MetadataValue.url(report_pages.url(page.relative_to(opened.reports))),
            "audit": dg.MetadataValue.url(report_pages.url(audit_page.relative_to(opened.reports))),
            "report_file": dg.MetadataValue.path(str(page)),
            "confusion": picture(figures.confusion_matrix(metrics), "confusion matrix"),
            "curves": picture(figures.roc_and_precision_recall(metrics), "ROC and precision-recall curves"),
            "calibration": picture(figures.calibration(metrics), "calibration"),
        },
    )


def _beside_the_targets(record: EvaluationReport, recipe: Recipe) -> dict[str, Any]:
    """What else the exam found; of a record that is older than a number, without it."""
    from petpark_assets.domain.report import calibration, comparison

    metrics = record.metrics
    errors = metrics["calibration"].get("of_confidence", metrics["calibration"])
    found: dict[str, Any] = {
        "expected_calibration_error": errors["expected_calibration_error"],
        "champion": comparison.sentence(record.comparison),
        "slices": table(_slice_rows(record)),
    }
    if "perfectly_calibrated" in errors:
        found["calibration_error_by_chance"] = errors["perfectly_calibrated"]["mean"]
        found["calibration_asked"] = calibration.judge(recipe.name, metrics["calibration"])["sentence"]
    if metrics.get("abstention"):
        unknown = metrics["abstention"]
        asked = calibration.judge_answered(recipe.answered_accuracy, unknown)["sentence"]
        found |= {"coverage": unknown["coverage"], "accuracy_of_the_answered": unknown["accuracy"]}
        found |= {"answered_asked": asked} if asked else {}
    return found


def _slice_rows(record: EvaluationReport) -> Iterator[Mapping[str, Any]]:
    both = record.comparison["slices"] if record.comparison else ()
    for number, part in enumerate(record.metrics.get("slices", ())):
        row = {
            "slice": f"{part['measure']}: {part['name']}",
            "photos": part["num_images"],
            "accuracy": part["accuracy"],
        }
        if both:
            row |= {"champion": both[number]["champion_accuracy"], "p worse": both[number]["p_worse_adjusted"]}
        yield row
