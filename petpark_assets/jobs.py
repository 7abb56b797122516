"""Named selections of what exists, each with a description, and the one job that makes versions.

Not here: what wakes them (sensors/).
"""

import dagster as dg
from pydantic import Field

from petpark_assets.assets.versions import show_versions
from petpark_assets.domain.lake.label_specs import SYNTAX
from petpark_assets.domain.workflow import ingestion
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.ray_cluster import RayCluster
from petpark_assets.resources.recipe import RunRecipe


class LakeConfig(dg.Config):
    """Which lake to look at."""

    lake: str = Field(description="The photos: a folder, or s3://bucket/prefix.")
    labels: list[str] = Field(
        default=[],
        description="Where labels come from, best first, by default as in the newest version, and in the first by "
        "folder and file names; a + before one gives it the rank of the one before. A "
        f"person's corrections come before all of them. Each is {SYNTAX}.",
    )


@dg.op(description="List the lake, decode what is new, assign the sides, and write the next manifest if any changed.")
def look_at_the_lake(
    context: dg.OpExecutionContext,
    config: LakeConfig,
    home: PetparkHome,
    recipe: RunRecipe,
    ray_cluster: RayCluster,
) -> tuple[str, bool]:
    """One version more, if the lake changed; either way the partitions are those of the manifests."""
    opened = home.open(run_id=context.run.run_id)
    told: set[int] = set()

    def tell_each_tenth(done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth not in told:
            told.add(tenth)
            context.log.info(f"{done} of {total} new photos read")

    resolution_px = recipe.resolve().resolution_px
    with ray_cluster.mapping_shards() as map_shards:
        result = ingestion.new_dataset_version(
            opened,
            config.lake,
            resolution_px,
            labels=config.labels,
            map_shards=map_shards,
            on_progress=tell_each_tenth,
        )
    show_versions(context.instance, opened)
    version = result.dataset_version
    news = f"made {version}" if result.is_new else f"nothing changed: the newest version is still {version}"
    images = ", ".join(f"{number} {state}" for state, number in result.raw_images.images.items())
    context.log.info(f"{news}: {images}; {result.num_read} files read, {result.num_decoded} photos new")
    return version, result.is_new


@dg.job(
    description="Data ingestion: look at the lake and make the next dataset version, if anything changed. "
    "Then materialize the assets of that version (job build).",
)
def new_dataset_version() -> None:
    """The only way a version comes to be."""
    look_at_the_lake()


build = dg.define_asset_job(
    "build",
    selection=dg.AssetSelection.groups("ingestion", "training", "testing", "packaging", "registration"),
    description="One dataset version from its photos to a registered model: all five steps of the workflow.",
)

retrain = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.groups("training", "testing", "packaging", "registration"),
    description="Train, examine and, if accepted, register another attempt of a version that was ingested before.",
)

JOBS = (new_dataset_version, build, retrain)
