"""Claims about a package."""

import dagster as dg

from petpark_assets.assets.package import onnx_package
from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.workflow import packaging
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.retries import tried_again


@dg.asset_check(asset=onnx_package, blocking=True, partitions_def=DATASET_VERSIONS)
@tried_again
def package_is_whole(
    context: dg.AssetCheckExecutionContext, home: PetparkHome, recipe: RunRecipe
) -> dg.AssetCheckResult:
    """Every file has the sha256 of the record and of SHA256SUMS, and the service's predictor opens the folder."""
    opened = home.open()
    problem = packaging.find_damage(opened, run_attempt(context, opened, recipe))
    return dg.AssetCheckResult(passed=problem is None, description=problem or "every file is as it was recorded")
