"""The partition of every asset, and the attempt a run works on.

Dagster's list of versions is derived from the manifests; the records are the truth, the UI is a view of them.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from petpark_assets.domain.attempts import Attempt, find_attempt, new_attempt
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import canonical_json
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake.catalogue import list_versions
from petpark_assets.resources.recipe import RunRecipe, is_named

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

    A run that scales or searches begins the attempt of its recipe. Any other goes on with the one its config names;
    else with the one it is tagged with, as Dagster does when a person executes a run again from where it failed; else
    with the only one there is. Raises InvalidInput with the list when there are several, or when the config tells it
    otherwise than the attempt was told; NotFound without any.
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
        attempt = find_attempt(home.store, version, run.attempt or context.run.tags.get(ATTEMPT_TAG))
        _require_told_the_same(attempt, run, context.run.run_config)
    context.instance.add_run_tags(context.run.run_id, {ATTEMPT_TAG: attempt.id})
    return attempt


def _require_told_the_same(attempt: Attempt, run: RunRecipe, run_config: Mapping[str, Any]) -> None:
    """An attempt is made as it was begun: what is set for a part of it would be ignored without a word."""
    found = run.differences(attempt.recipe)
    if is_named(run_config) and run.recipe != attempt.recipe.name:
        found = {"recipe": (run.recipe, attempt.recipe.name), **found}
    if found:
        told = "; ".join(
            f"{name} {_said(here)}, where it was told {_said(there)}" for name, (here, there) in found.items()
        )
        raise InvalidInput(
            f"this run goes on with attempt {attempt.id} of {attempt.dataset_version}, and its config says {told}: "
            "leave that out, or launch from feature_scaling on, which begins another attempt"
        )


def _said(value: Any) -> str:
    return canonical_json(value).decode()
