"""Claims about a version's photos."""

from collections import Counter

import dagster as dg

from petpark_assets.assets.lake import raw_images
from petpark_assets.assets.versions import DATASET_VERSIONS
from petpark_assets.domain.files import read_record
from petpark_assets.domain.lake.catalogue import STATES
from petpark_assets.domain.records import RawImages
from petpark_assets.domain.workflow.sides import read_manifest
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.retries import tried_again


@dg.asset_check(asset=raw_images, blocking=True, partitions_def=DATASET_VERSIONS)
@tried_again
def every_photo_is_counted_once(context: dg.AssetCheckExecutionContext, home: PetparkHome) -> dg.AssetCheckResult:
    """Seen = accepted + duplicate + quarantined, counted again from the manifest's rows."""
    opened = home.open()
    states = Counter(read_manifest(opened, context.partition_key)["state"].to_pylist())
    recorded = read_record(opened.store, RawImages, context.partition_key).images
    total = sum(states[state] for state in STATES)
    return dg.AssetCheckResult(
        passed=total == states.total() == recorded["seen"]
        and all(states[state] == recorded[state] for state in STATES),
        description=f"{states.total()} rows, {total} accounted for, {recorded['seen']} recorded as seen",
        metadata=dict(states),
    )
