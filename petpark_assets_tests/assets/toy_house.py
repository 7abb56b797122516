"""Two assets that find their attempt as ours do, as a code location: a search that tries nothing, an exam that breaks.

Not here: the claims about them (test_versions.py).
"""

from pathlib import Path

import dagster as dg

from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.files import write_record
from petpark_assets.domain.home import Home
from petpark_assets.domain.records import HyperparameterSearch
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.s3 import S3Connection

BREAKS = "breaks"
"""The file of a home in which the exam breaks."""


def begin(home: Home, attempt: Attempt) -> None:
    """Record the search that makes an attempt one of its version."""
    record = HyperparameterSearch(
        dataset_version=attempt.dataset_version,
        attempt=attempt.id,
        train_split="",
        feature_scaling="",
        recipe=attempt.recipe.name,
        configuration=vars(attempt.recipe),
        seed=attempt.recipe.seed,
        code_version=attempt.code_version,
        algorithm="none",
        space={},
        trials=(),
        best_hyperparameters={},
        default_validation_accuracy=None,
        best_validation_accuracy=None,
        num_validation_images=0,
    )
    write_record(home.store, record, {})


@dg.asset(partitions_def=DATASET_VERSIONS)
def hyperparameter_search(context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe) -> None:
    """Begin the run's attempt."""
    opened = home.open()
    begin(opened, run_attempt(context, opened, recipe))


@dg.asset(partitions_def=DATASET_VERSIONS, deps=[hyperparameter_search])
def evaluation_report(context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe) -> dg.MaterializeResult:
    """Find it again, and say which one it is."""
    attempt = run_attempt(context, home.open(), recipe)
    if (Path(home.root) / BREAKS).exists():
        raise RuntimeError("as asked for")
    return dg.MaterializeResult(metadata={"attempt": attempt.id})


defs = dg.Definitions(
    assets=[hyperparameter_search, evaluation_report],
    jobs=[dg.define_asset_job("build")],
    resources={
        "home": PetparkHome(root=dg.EnvVar("PETPARK_HOME"), actor="tester", s3=S3Connection()),
        "recipe": RunRecipe(),
    },
    executor=dg.in_process_executor,
)
