"""The two sides of a version: what the network learns from, and what it is examined on."""

import dagster as dg

from petpark_assets.assets.lake import raw_images
from petpark_assets.assets.metadata import OWNERS, counts, materialized
from petpark_assets.assets.versions import DATASET_VERSIONS
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.home import Home
from petpark_assets.domain.records import TestSplit, TrainSplit
from petpark_assets.domain.workflow import ingestion
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.retries import tried_again

CODE_VERSION = code_version("splits")[:12]


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "train_split",
            deps=[raw_images],
            group_name="ingestion",
            kinds={"python", "parquet"},
            owners=OWNERS,
            code_version=CODE_VERSION,
            description="80 % of each class: all that training, its validation and its statistics ever see. "
            "A photo never changes sides in a later version.",
        ),
        dg.AssetSpec(
            "test_split",
            deps=[raw_images],
            group_name="ingestion",
            kinds={"python", "parquet"},
            owners=OWNERS,
            code_version=CODE_VERSION,
            description="20 % of each class: photos that no training sees. Who asks a model about them is in the "
            "ledger, with the model and the purpose: the evaluation, which asks the champion too; packaging, to prove "
            "that the package answers as the report says; a replay that came to other weights. The checks for copies "
            "compare pixels and ask no model.",
        ),
    ],
    partitions_def=DATASET_VERSIONS,
)
@tried_again
def split(
    context: dg.AssetExecutionContext, home: PetparkHome
) -> tuple[dg.MaterializeResult[None], dg.MaterializeResult[None]]:
    """Read both sides from the version's manifest."""
    opened = home.open(context.run)
    train, test = ingestion.split(opened, context.partition_key)
    return _made(opened, train), _made(opened, test)


def _made(home: Home, record: TrainSplit | TestSplit) -> dg.MaterializeResult[None]:
    return materialized(
        home,
        record,
        {
            "images": counts(record.images_by_label, of="label"),
            "members_sha256": record.members,
            "dagster/row_count": sum(record.images_by_label.values()),
        },
    )
