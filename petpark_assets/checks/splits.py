"""Claims about the two sides; the exam asks those that block again, for a run that passes by them."""

from itertools import takewhile

import dagster as dg
import pyarrow as pa

from petpark_assets.assets.metadata import table
from petpark_assets.assets.versions import DATASET_VERSIONS
from petpark_assets.domain import splits
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.workflow import ingestion, invariants
from petpark_assets.domain.workflow.sides import read_manifest
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.retries import tried_again

SHOWN = 50
"""Pairs at most in the UI, which long metadata slows."""
OUT_OF_REACH = " (removals keep it from 80/20 until photos arrive)"


@dg.asset_check(asset="test_split", blocking=True, partitions_def=DATASET_VERSIONS)
@tried_again
def no_photo_on_both_sides(context: dg.AssetCheckExecutionContext, home: PetparkHome) -> dg.AssetCheckResult:
    """No photo, and no group of photos, is in train and in test; and none was on the other side in any version."""
    offending = ingestion.find_mixed(home.open(), context.partition_key)
    return dg.AssetCheckResult(
        passed=not offending,
        description=ingestion.describe_mixed(offending) if offending else "the sides share nothing",
        metadata={"offending": offending[:20]},
    )


@dg.asset_check(asset="test_split", blocking=True, partitions_def=DATASET_VERSIONS)
@tried_again
def no_near_duplicate_on_both_sides(
    context: dg.AssetCheckExecutionContext, home: PetparkHome, recipe: RunRecipe
) -> dg.AssetCheckResult:
    """No test photo has a copy among the train photos, by another signature than the one that groups were made by.

    What only looks alike is listed and does not block.
    """
    resolution_px = recipe.resolve().resolution_px
    verified, suspects = ingestion.find_leaks(home.open(), context.partition_key, resolution_px)
    return dg.AssetCheckResult(
        passed=not verified,
        description=ingestion.describe_leaks(verified)
        if verified
        else f"no copies across the sides, {len(suspects)} suspects",
        metadata={"verified": table(verified[:SHOWN]), "suspects": table(suspects[:SHOWN])},
    )


@dg.asset_check(asset="test_split", partitions_def=DATASET_VERSIONS)
@tried_again
def split_is_80_to_20(context: dg.AssetCheckExecutionContext, home: PetparkHome) -> dg.AssetCheckResult:
    """Each class is within half a percentage point, or its largest group, of 80/20; removals can forbid it."""
    opened = home.open()
    manifest = read_manifest(opened, context.partition_key)
    shares = splits.balance(manifest)
    is_balanced = all(share.is_balanced for share in shares.values())
    forbidden = set() if is_balanced else _out_of_reach(opened, context.partition_key, manifest)
    said = {label: f"{label}: {share.test_share:.4f} on the test side" for label, share in shares.items()}
    return dg.AssetCheckResult(
        passed=is_balanced,
        severity=dg.AssetCheckSeverity.WARN,
        description=", ".join(words + OUT_OF_REACH * (label in forbidden) for label, words in said.items()),
    )


def _out_of_reach(home: Home, version: str, manifest: pa.Table) -> set[str]:
    """Classes that no division of the version's new photos could have brought to 80/20; reads all versions before."""
    members = invariants.MEMBER.empty_table()
    for earlier in takewhile(lambda name: name != version, catalogue.list_versions(home.store)):
        rows = catalogue.read_manifest(home.store, earlier, columns=invariants.MEMBER.names[:-1])
        members = invariants.fold(members, earlier, rows)
    off = invariants.unbalanced(members, version, manifest)
    return {found["label"] for found in off if not found["is_reachable"]}
