"""Claims about a model: the gate."""

import dagster as dg

from petpark_assets.assets.report import evaluation_report
from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.files import read_record
from petpark_assets.domain.records import EvaluationReport
from petpark_assets.domain.workflow import gate
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.retries import tried_again


@dg.asset_check(asset=evaluation_report, blocking=True, partitions_def=DATASET_VERSIONS)
@tried_again
def model_satisfies(
    context: dg.AssetCheckExecutionContext, home: PetparkHome, recipe: RunRecipe
) -> dg.AssetCheckResult:
    """The report's point estimates reach every target, and no slice is significantly worse than the champion's.

    If not, nothing goes on and the steps are repeated, unless a person lets the model through with a name and a reason.
    """
    opened = home.open()
    attempt = run_attempt(context, opened, recipe)
    record = read_record(opened.store, EvaluationReport, attempt.dataset_version, attempt.id)
    override = None if record.is_accepted else gate.read_override(opened, record)
    said = f"{record.verdict}; let through by {override.by}: {override.because}" if override else record.verdict
    return dg.AssetCheckResult(
        passed=record.is_accepted or override is not None,
        description=said,
        metadata={"accuracy": record.metrics["accuracy"], **{f"target_{k}": v for k, v in record.targets.items()}},
    )
