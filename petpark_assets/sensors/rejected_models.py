"""A rejected model is trained again with a wider search, where domain/workflow/retraining.py allows it.

Off at first: it spends hours of computing by itself. Requests are filed by the exam whether it is on or not.
"""

from typing import Any

import dagster as dg

from petpark_assets import jobs
from petpark_assets.assets.versions import ATTEMPT_TAG
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.files import digest
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake.catalogue import list_versions
from petpark_assets.domain.workflow import retraining
from petpark_assets.domain.workflow.retraining import Filed
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe, as_run_config

REQUEST_TAG = "petpark/retrain_request"
"""With the digest of the request that a run carries out."""


@dg.sensor(
    job=jobs.retrain,
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=f"Trains a rejected version again with a wider search: at most {retraining.BUDGET} times a version, "
    f"{retraining.COOL_DOWN.total_seconds() / 3600:.0f} hours apart, and only the newest.",
)
def rejected_models(context: dg.SensorEvaluationContext, home: PetparkHome) -> dg.SensorResult:
    """One request at most; one that a killed tick noted as begun without asking for its run is asked for again."""
    opened = home.open()
    lost = _begun_without_run(context.instance, opened)
    if lost is not None:
        return dg.SensorResult(run_requests=[_run_request(lost)])
    found, why = retraining.decide(opened)
    if found is None:
        return dg.SensorResult(skip_reason=why)
    config = _recipe_config(found)
    if digest(RunRecipe(**config).resolve()) != digest(retraining.requested_recipe(found.request)):
        return dg.SensorResult(skip_reason=f"{why}; but its recipe is older than this code: build the version anew")
    request = _run_request(found)
    recipe = retraining.requested_recipe(found.request)
    retraining.note_start(opened, found, new_attempt(found.request.dataset_version, recipe))
    context.log.info(why)
    return dg.SensorResult(run_requests=[request])


def _begun_without_run(instance: dg.DagsterInstance, home: Home) -> Filed | None:
    """By the ledger it was begun, and Dagster has no run of it: the run key keeps it from being made twice."""
    versions = list_versions(home.store)
    filed = retraining.read_requests(home.store, versions[-1]) if versions else []
    starts = retraining.read_starts(home, {one.digest for one in filed})
    for one in filed:
        if one.digest in starts and not instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: one.digest}), limit=1):
            return one
    return None


def _run_request(filed: Filed) -> dg.RunRequest:
    version = filed.request.dataset_version
    attempt = new_attempt(version, retraining.requested_recipe(filed.request))
    return dg.RunRequest(
        run_key=filed.digest,
        partition_key=version,
        run_config={"resources": {"recipe": {"config": _recipe_config(filed)}}},
        tags={ATTEMPT_TAG: attempt.id, REQUEST_TAG: filed.digest},
    )


def _recipe_config(filed: Filed) -> dict[str, Any]:
    return as_run_config(retraining.requested_recipe(filed.request))
