"""Claims about a version's photos."""

import dagster as dg

from petpark_assets.assets.lake import raw_images
from petpark_assets.assets.versions import DATASET_VERSIONS
from petpark_assets.domain.lake.catalogue import counts
from petpark_assets.domain.workflow.sides import read_manifest
from petpark_assets.resources.home import PetparkHome


@dg.asset_check(asset=raw_images, blocking=True, partitions_def=DATASET_VERSIONS)
def every_photo_is_counted_once(context: dg.AssetCheckExecutionContext, home: PetparkHome) -> dg.AssetCheckResult:
    """Seen = accepted + duplicate + quarantined, counted again from the manifest's rows."""
    images = counts(read_manifest(home.open(), context.partition_key))["images"]
    total = images["accepted"] + images["duplicate"] + images["quarantined"]
    return dg.AssetCheckResult(
        passed=images["seen"] == total,
        description=f"{images['seen']} seen, {total} accounted for",
        metadata=dict(images),
    )
