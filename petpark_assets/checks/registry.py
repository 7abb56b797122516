"""Claims about a registered version."""

import dagster as dg

from petpark_assets.assets.registry import registered_model
from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.workflow import registration
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.retries import tried_again


@dg.asset_check(asset=registered_model, partitions_def=DATASET_VERSIONS)
@tried_again
def version_can_be_downloaded(
    context: dg.AssetCheckExecutionContext, home: PetparkHome, recipe: RunRecipe
) -> dg.AssetCheckResult:
    """The registered version downloads whole, with every sum verified."""
    opened = home.open()
    problem = registration.find_damage(opened, run_attempt(context, opened, recipe))
    return dg.AssetCheckResult(passed=problem is None, description=problem or "downloaded and verified")
