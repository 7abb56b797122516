"""The exam: the report of a model on photos it never saw."""

import dagster as dg

from petpark_assets.assets.metadata import OWNERS, materialized, picture, table
from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.workflow import testing
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.reports import ReportPages


@dg.asset(
    partitions_def=DATASET_VERSIONS,
    deps=["test_split", "trained_cnn"],
    group_name="testing",
    kinds={"scikitlearn", "html"},
    owners=OWNERS,
    code_version=code_version("report")[:12],
)
def evaluation_report(
    context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe, report_pages: ReportPages
) -> dg.MaterializeResult[None]:
    """Accuracy, precision, recall, and true and false positives and negatives on data the model never saw.

    With intervals, curves, and the most wrong photos. The verdict is the gate: a rejected model is neither packaged
    nor registered, and the steps are repeated.
    """
    from petpark_assets.domain.report import figures

    opened = home.open(run_id=context.run.run_id)
    attempt = run_attempt(context, opened, recipe)
    record = testing.evaluation_report(opened, attempt)
    page = testing.draw_page(opened, attempt)
    context.log.info(record.verdict)
    metrics = record.metrics
    return materialized(
        opened,
        record,
        {
            "attempt": attempt.id,
            "is_accepted": record.is_accepted,
            "verdict": record.verdict,
            "accuracy": metrics["accuracy"],
            "targets": table(
                {"measure": name, "asked": asked, "by default": record.default_targets[name]}
                for name, asked in record.targets.items()
            ),
            "report": dg.MetadataValue.url(report_pages.url(page.relative_to(opened.reports))),
            "report_file": dg.MetadataValue.path(str(page)),
            "confusion": picture(figures.confusion_matrix(metrics), "confusion matrix"),
            "curves": picture(figures.roc_and_precision_recall(metrics), "ROC and precision-recall curves"),
            "calibration": picture(figures.calibration(metrics), "calibration"),
        },
    )
