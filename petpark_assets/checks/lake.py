"""Claims about a version's photos."""

import dagster as dg

from petpark_assets.assets.lake import raw_images
from petpark_assets.assets.versions import DATASET_VERSIONS
from petpark_assets.domain.lake.catalogue import STATES, counts
from petpark_assets.domain.workflow.sides import read_manifest
from petpark_assets.resources.home import PetparkHome


@dg.asset_check(asset=raw_images, blocking=True, partitions_def=DATASET_VERSIONS)
def every_photo_is_counted_once(context: dg.AssetCheckExecutionContext, home: PetparkHome) -> dg.AssetCheckResult:
    """Seen = accepted + duplicate + quarantined, counted again from the manifest's rows."""
    counted = counts(read_manifest(home.open(), context.partition_key))
    total = sum(counted[state] for state in STATES)
    return dg.AssetCheckResult(
        passed=counted["seen"] == total,
        description=f"{counted['seen']} seen, {total} accounted for",
        metadata={name: counted[name] for name in ("seen", *STATES, "ignored")},
    )
