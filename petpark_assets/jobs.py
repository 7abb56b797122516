"""Named selections of what exists, the one job that makes versions, and a person's decisions; each described.

Not here: what wakes them (sensors/).
"""

from typing import Any

import dagster as dg
from pydantic import Field

from petpark_assets.assets.versions import show_versions
from petpark_assets.domain.audit import trail
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake.label_specs import SYNTAX
from petpark_assets.domain.workflow import gate, ingestion, reconciliation, registration
from petpark_assets.resources import login
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.lake_watch import LakeWatch
from petpark_assets.resources.ray_cluster import RayCluster
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.retries import tried_again
from petpark_assets.resources.run_coordinator import LoginRunCoordinator

MOST_NAMES = 10
"""In one line."""


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
@tried_again
def look_at_the_lake(
    context: dg.OpExecutionContext,
    config: LakeConfig,
    home: PetparkHome,
    recipe: RunRecipe,
    ray_cluster: RayCluster,
) -> tuple[str, bool]:
    """One version more, if the lake changed; either way the partitions are those of the manifests."""
    opened = home.open(context.run)
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


@dg.op(description="Compare the lake with the newest version, object by object, and name what differs.")
@tried_again
def compare_with_the_lake(context: dg.OpExecutionContext, home: PetparkHome, lake_watch: LakeWatch) -> None:
    """Raises Failure, so that whoever is told of failures hears of it."""
    found = reconciliation.reconcile(home.open(context.run), lake_watch.lake)
    counts = ", ".join(f"{found[kind]} {kind}" for kind in reconciliation.KINDS)
    context.log.info(f"{found['lake']} and {found['dataset_version']}: {counts}")
    if not found["is_reconciled"]:
        first = ", ".join(f"{item['key']} ({item['kind']})" for item in found["offending"][:MOST_NAMES])
        raise dg.Failure(
            f"the lake {found['lake']} is not as {found['dataset_version']} has it: {counts}; first {first}",
            allow_retries=False,
        )


@dg.job(description="Compare the lake with the newest dataset version, object by object: fails naming what differs.")
def reconcile_lake() -> None:
    """The same as `petpark lake reconcile`."""
    compare_with_the_lake()


BY = Field(default=None, description="Who decides; by default who launched the run, or PETPARK_ACTOR.")


class PromotionConfig(dg.Config):
    """Which model answers from now on."""

    model: str = Field(description="A model version (3 or v3) or an alias (candidate).")
    by: str | None = BY
    because: str = Field(description="Why; it stays in the ledger.")


class OverrideConfig(dg.Config):
    """Which rejected model goes on."""

    attempt: str = Field(description="A rejected attempt or its report: 8 or more digits of either.")
    by: str | None = BY
    because: str = Field(description="Why; it stays in the ledger, the package and every page.")


@dg.op(description="Make a registered version the champion.")
def promote_version(context: dg.OpExecutionContext, config: PromotionConfig, home: PetparkHome) -> None:
    """The same as `petpark registry promote`; the asset's page shows it too."""
    opened, by = _open_for_a_person(context, home, config.by)
    told = registration.promote(opened, config.model, by=by, because=config.because)
    tags = opened.registry.show(told["champion"]).tags
    said = {name: value for name, value in told.items() if value is not None}
    _observe(context, "registered_model", tags["dataset_version"], {"attempt": tags["attempt"], **said})


@dg.op(description="Let a rejected model through the gate.")
def let_model_through(context: dg.OpExecutionContext, config: OverrideConfig, home: PetparkHome) -> None:
    """The same as `petpark registry override`; the asset's page shows it too."""
    opened, by = _open_for_a_person(context, home, config.by)
    found = trail.find_model(opened, config.attempt)
    override = gate.let_through(opened, found.dataset_version, found.attempt, by=by, because=config.because)
    _observe(context, "evaluation_report", found.dataset_version, gate.describe(override))


def _open_for_a_person(context: dg.OpExecutionContext, home: PetparkHome, by: str | None) -> tuple[Home, str]:
    """The home with the person as the ledger's actor, and that person; who logged in decides in no other's name."""
    has_login = isinstance(context.instance.run_coordinator, LoginRunCoordinator)
    user = login.approver_of(context.run.tags, has_login=has_login)
    if user and by not in {None, "", user}:
        raise InvalidInput(f"you are logged in as {user}, and cannot decide as {by}: leave the field `by` empty")
    opened = home.open(context.run)
    return opened, user or by or opened.actor


def _observe(context: dg.OpExecutionContext, asset: str, version: str, told: dict[str, Any]) -> None:
    context.log.info(", ".join(f"{name}: {value}" for name, value in told.items()))
    context.log_event(dg.AssetObservation(asset_key=asset, partition=version, metadata=told))


@dg.job(description="A person makes a registered version the champion: its verdict is read again, byte for byte.")
def promote_model() -> None:
    """Approval from the UI."""
    promote_version()


@dg.job(
    description="A person lets a rejected model through the gate, with a reason that shows wherever the model does. "
    "Then materialize evaluation_report, onnx_package and registered_model, with its attempt in the run's config."
)
def override_gate() -> None:
    """Override from the UI."""
    let_model_through()


JOBS = (new_dataset_version, build, retrain, reconcile_lake, promote_model, override_gate)
