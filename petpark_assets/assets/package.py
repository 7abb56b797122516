"""The package: one folder with everything that is needed to use a model and to trace it."""

import dagster as dg

from petpark_assets.assets.metadata import OWNERS, materialized, override, table
from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.workflow import packaging
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.retries import tried_again


@dg.asset(
    partitions_def=DATASET_VERSIONS,
    deps=["trained_cnn", "evaluation_report"],
    group_name="packaging",
    kinds={"onnx"},
    owners=OWNERS,
    code_version=code_version("package")[:12],
)
@tried_again
def onnx_package(context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe) -> dg.MaterializeResult[None]:
    """ONNX with the preprocessing inside the graph: a photo of any size in, probabilities out.

    Proved on the whole test side: the same labels as the network, and the report's accuracy from the photos' own bytes.
    A faster 8 bit variant is beside it where that lost at most 0.2 points on the validation part; what it loses on the
    test side is recorded.
    """
    opened = home.open(context.run)
    attempt = run_attempt(context, opened, recipe)
    record = packaging.onnx_package(opened, attempt)
    return materialized(
        opened,
        record,
        {
            "attempt": attempt.id,
            **override(opened, attempt),
            "parity": dg.MetadataValue.json(dict(record.parity)),
            **packaging.int8_speed_up(opened, attempt),
            "files": table({"file": name, "sha256": sha256} for name, sha256 in record.files.items()),
            "folder": dg.MetadataValue.path(str(packaging.package_folder(opened, attempt))),
        },
    )
