"""The registry: an accepted package becomes an immutable version that can be downloaded and deployed."""

import dagster as dg

from petpark_assets.assets.metadata import OWNERS, materialized, override
from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.audit import pages
from petpark_assets.domain.workflow import registration
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.reports import ReportPages
from petpark_assets.resources.retries import tried_again


@dg.asset(
    partitions_def=DATASET_VERSIONS,
    deps=["onnx_package", "evaluation_report"],
    group_name="registration",
    kinds={"mlflow", "onnx"},
    owners=OWNERS,
    code_version=code_version("registry")[:12],
)
@tried_again
def registered_model(
    context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe, report_pages: ReportPages
) -> dg.MaterializeResult[None]:
    """One immutable version in MLflow's registry, with tags that lead to every parent.

    It becomes `candidate`, and `champion` when it is clearly better than the champion on the same photos; otherwise it
    waits for a person.
    """
    opened = home.open(context.run)
    attempt = run_attempt(context, opened, recipe)
    record = registration.registered_model(opened, attempt)
    page = pages.draw_page(opened, attempt)
    return materialized(
        opened,
        record,
        {
            "attempt": attempt.id,
            **override(opened, attempt),
            "model_name": record.model_name,
            "model_version": record.model_version,
            "succession": registration.succession(opened, record.model_version),
            "aliases": ", ".join(opened.registry.show(record.model_version).aliases) or "none",
            "audit": dg.MetadataValue.url(report_pages.url(page.relative_to(opened.reports))),
            "download": dg.MetadataValue.md(f"`petpark registry download {record.model_version} --to FOLDER`"),
        },
    )
