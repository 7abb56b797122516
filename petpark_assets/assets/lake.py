"""The lake, which is not ours, and the photos of one version of it."""

import dagster as dg

from petpark_assets.assets.metadata import OWNERS, counts, materialized
from petpark_assets.assets.versions import DATASET_VERSIONS, show_versions
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.workflow import ingestion
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.reports import ReportPages
from petpark_assets.resources.retries import tried_again

lake = dg.AssetSpec(
    "lake",
    group_name="ingestion",
    kinds={"file"},
    owners=OWNERS,
    description="The park's labelled photos, as they come: a folder or an S3 bucket, with labels by folder, by file "
    "name, from a table or from a database. The job `new_dataset_version` looks at it and makes a version when "
    "something changed.",
)


@dg.asset(
    partitions_def=DATASET_VERSIONS,
    deps=[lake],
    group_name="ingestion",
    kinds={"python", "parquet"},
    owners=OWNERS,
    code_version=code_version("lake", "images", "splits")[:12],
)
@tried_again
def raw_images(
    context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe, report_pages: ReportPages
) -> dg.MaterializeResult[None]:
    """Every photo of this version, from an immutable manifest: what was accepted, and what was set aside and why.

    The version was made by `new_dataset_version`; here its manifest is verified and its pixels are made ready. The
    lake is not looked at again.
    """
    opened = home.open(context.run)
    show_versions(context.instance, opened)
    record = ingestion.raw_images(opened, context.partition_key, recipe.resolve().resolution_px)
    page = ingestion.draw_quarantine(opened, context.partition_key)  # a link: Dagster's own log could forget no photo
    return materialized(
        opened,
        record,
        {
            "images": counts(record.images, of="state"),
            "accepted": counts(record.accepted_by_label, of="label"),
            "quarantined": counts(record.quarantined_by_reason, of="reason"),
            "quarantined_photos": dg.MetadataValue.url(report_pages.url(page.relative_to(opened.reports))),
            "manifest_sha256": record.manifest,
            "dagster/row_count": record.images["seen"],
        },
    )
