"""The partition of every asset, and the attempt a run works on.

Dagster's list of versions is derived from the manifests; the records are the truth, the UI is a view of them.
"""

import dagster as dg

from petpark_assets.domain.attempts import Attempt, find_attempt, new_attempt
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake.catalogue import list_versions
from petpark_assets.resources.recipe import RunRecipe

DATASET_VERSIONS = dg.DynamicPartitionsDefinition(name="dataset_version")
ATTEMPT_TAG = "petpark/attempt"
BEGINNINGS = {dg.AssetKey("feature_scaling"), dg.AssetKey("hyperparameter_search")}
"""A run with one of these begins an attempt, or comes back to the one that was told the same."""


def show_versions(instance: dg.DagsterInstance, home: Home) -> None:
    """Let Dagster's list of versions be that of the manifests: what is missing is added, what is not there goes."""
    name = str(DATASET_VERSIONS.name)
    made, shown = set(list_versions(home.store)), set(instance.get_dynamic_partitions(name))
    instance.add_dynamic_partitions(name, sorted(made - shown))
    for gone in sorted(shown - made):
        instance.delete_dynamic_partition(name, gone)


def run_attempt(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, home: Home, run: RunRecipe
) -> Attempt:
    """The attempt of this run, which is tagged with it.

    A run that scales or searches begins the attempt of its recipe; any other goes on with the one its config names,
    or with the only one there is. Raises InvalidInput with the list when there are several, NotFound without any.
    """
    version = context.partition_key
    if BEGINNINGS & set(context.job_def.asset_layer.executable_asset_keys):
        attempt = new_attempt(version, run.resolve())
        if run.attempt not in {None, attempt.id}:
            raise InvalidInput(
                f"the run's config names attempt {run.attempt}, but a run with feature_scaling or "
                f"hyperparameter_search begins attempt {attempt.id}: leave attempt empty, or materialize only "
                "what comes after the search"
            )
    else:
        attempt = find_attempt(home.store, version, run.attempt)
    context.instance.add_run_tags(context.run.run_id, {ATTEMPT_TAG: attempt.id})
    return attempt
