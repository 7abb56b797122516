"""`petpark lake`: the lake and its versions."""

from pathlib import Path
from typing import Annotated

import typer

from petpark_assets.resources.environments import open_here
from petpark_assets.terminal import (
    answering,
    say,
    show_build,
    show_diff,
    show_fields,
    show_label_issues,
    show_reconciliation,
    show_sections,
    show_verification,
    show_versions,
)
from petpark_assets.verbs.options import (
    ByOption,
    HomeOption,
    JsonOption,
    LabelsOption,
    LakeOption,
    RecipeOption,
    VersionArgument,
    enter,
    in_utf8,
)

app = typer.Typer(no_args_is_help=True, help="The lake and its versions.")

PhotoArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY_OR_SHA",
        callback=in_utf8,
        help="A photo's path in the lake, or its sha256 (8 digits or more).",
    ),
]


@app.command("ingest")
def lake_ingest(
    lake_uri: LakeOption,
    labels: LabelsOption = None,
    recipe: RecipeOption = "laptop",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the next dataset version, if the lake changed; nothing is trained."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.attempts import new_attempt
        from petpark_assets.domain.recipes import find_recipe
        from petpark_assets.domain.workflow import ingestion, summary

        opened, told = open_here(environment), find_recipe(recipe)
        unchanged = ingestion.newest_if_unchanged(opened, lake_uri, labels or ())
        if unchanged is not None:  # what a look at the names shows needs no run, and no Dagster
            document = summary.summarize(opened, lake_uri, new_attempt(unchanged, told), is_new=False)
        else:
            from petpark_assets import launch

            document = launch.ingest_only(environment, lake_uri, recipe, labels=labels, show=say)
        answer(document, show_build)


@app.command("status")
def lake_status(
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with the quarantined photos.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every dataset version: what was accepted, and what was set aside and why."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import ingestion

        opened = open_here(environment)
        if html is not None:
            ingestion.write_status_page(opened, html)
        answer(ingestion.describe_versions(opened), show_versions)


@app.command("export")
def lake_export(
    version: VersionArgument,
    to: Annotated[Path, typer.Option("--to", callback=in_utf8, help="The Parquet file to write; it must not exist.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version's manifest, a row for each photo, as a Parquet file."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import ingestion

        answer(ingestion.export_manifest(open_here(environment), version, to), show_fields)


@app.command("diff")
def lake_diff(old: VersionArgument, new: VersionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What changed between two versions: added, removed, relabelled, moved to or from quarantine, by class."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import ingestion

        answer(ingestion.compare_versions(open_here(environment), old, new), show_diff)


@app.command("verify")
def lake_verify(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Prove, over all versions, that nothing is lost or changed and that no photo or copy of one is on both sides."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import verification

        document = verification.verify_versions(open_here(environment))
        answer(document, show_verification)
    raise typer.Exit(0 if document["is_sound"] else 1)


@app.command("reconcile")
def lake_reconcile(
    lake_uri: Annotated[
        str | None,
        typer.Option("--lake", callback=in_utf8, help="The lake, if not PETPARK_LAKE or that of the newest version."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the lake with the newest version, object by object; exit code 1 where anything differs."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import reconciliation

        document = reconciliation.reconcile(open_here(environment), lake_uri or environment.lake)
        answer(document, show_reconciliation)
    raise typer.Exit(0 if document["is_reconciled"] else 1)


@app.command("correct")
def lake_correct(
    photo: PhotoArgument,
    label: Annotated[str, typer.Argument(help="What it shows: cat or dog.")],
    *,
    by: ByOption,
    because: Annotated[str, typer.Option("--because", callback=in_utf8, help="Why; it stays with the photo.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Correct a photo's label; the next version has it, whatever the label sources say."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import ingestion

        opened = open_here(environment)
        answer(ingestion.correct_label(opened, photo, label, by=by, because=because), show_fields)


@app.command("label-issues")
def lake_label_issues(
    version: Annotated[
        str | None, typer.Argument(help="A dataset version: v0001, or 1; the newest without it.")
    ] = None,
    *,
    recipe: RecipeOption = "laptop",
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Of each of the three trainings; else as in the recipe's search.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with the photos.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Photos of the train side whose label a cross-validated model doubts, and the command that mends each."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.recipes import find_recipe
        from petpark_assets.domain.workflow import ingestion, label_issues

        opened, told = open_here(environment), find_recipe(recipe)
        found = ingestion.find_version(opened, version) if version else ingestion.newest_version(opened)
        document = label_issues.find_label_issues(opened, found, told, epochs=epochs, say=say)
        if html is not None:
            label_issues.write_page(opened, document, html)
        answer(document, show_label_issues)


@app.command("forget")
def lake_forget(
    photo: PhotoArgument,
    reason: Annotated[str, typer.Option("--reason", callback=in_utf8, help="Why; it stays in the ledger.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a photo's bytes and pixels everywhere, for ever; says which versions and models had it."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import forgetting

        answer(forgetting.forget(open_here(environment), photo, reason), show_sections)
