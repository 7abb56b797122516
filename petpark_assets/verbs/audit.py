"""`petpark audit`: what stands behind a model or a photo, what was so when, and whether all of it is whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from petpark_assets.resources.environments import open_here
from petpark_assets.terminal import answering, say, show_fields
from petpark_assets.verbs.audit_tables import show, show_table
from petpark_assets.verbs.options import HomeOption, JsonOption, VersionArgument, enter, in_utf8

app = typer.Typer(no_args_is_help=True, help="What stands behind a model or a photo, and whether all of it is whole.")

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A model version (3 or v3), an alias, an attempt, or 8 or more digits of a digest."
    ),
]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Also write it as one page.")]


@app.command("verify")
def audit_verify(html: HtmlOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Prove the ledger's chain, and the chain from the registry to the lake with every file, from the files alone."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit import proof

        document = proof.verify(open_here(environment))
        _draw("Is all of it whole?", document, html)
        answer(document, show)
    raise typer.Exit(0 if document["is_sound"] else 1)


@app.command("model")
def audit_model(
    model: ModelArgument, html: HtmlOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Which data, code, parameters and people stand behind a model, accepted or rejected."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit import models

        opened = open_here(environment)
        document = models.describe_model(opened, model)
        if html is not None:
            from petpark_assets.domain.audit import pages

            pages.write_model_page(opened, model, html)
        answer(document, lambda shown: show({**shown, "metrics": None}))


@app.command("image")
def audit_image(
    photo: Annotated[
        str,
        typer.Argument(
            metavar="PHOTO",
            callback=in_utf8,
            help="A path in the lake, a sha256 (8 digits or more), or a photo file.",
        ),
    ],
    html: HtmlOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which versions, models, reports and predictions a photo touched."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit import photos

        document = photos.describe_photo(open_here(environment), photo)
        _draw(f"What did photo {photo} touch?", document, html)
        answer(document, show)


@app.command("dataset")
def audit_dataset(
    version: VersionArgument, html: HtmlOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """What a dataset version is, and the models that were made of it."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit import timeline
        from petpark_assets.domain.workflow.ingestion import find_version

        opened = open_here(environment)
        document = timeline.describe_dataset(opened, find_version(opened, version))
        _draw(f"What is {document['dataset_version']}?", document, html)
        answer(document, show)


@app.command("rejected")
def audit_rejected(html: HtmlOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What was rejected and why; who approved what, or that the rule did."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit import models

        document = models.rejected(open_here(environment))
        _draw("What was rejected, and who approved?", document, html)
        answer(document, show)


@app.command("at")
def audit_at(
    time: Annotated[str, typer.Argument(help="A moment: 2027-03-03T10:00, UTC, or with +01:00 behind.")],
    html: HtmlOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was champion at a moment, and why."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit import timeline

        document = timeline.at(open_here(environment), time)
        _draw(f"What was champion on {document['time'][:16].replace('T', ' ')} UTC?", document, html)
        answer(document, show)


@app.command("diff")
def audit_diff(
    before: ModelArgument,
    after: ModelArgument,
    html: HtmlOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What changed between two models: data, parameters, metrics by slice, photos whose verdict flipped."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit import changes

        document = changes.compare_models(open_here(environment), before, after)
        _draw(f"What changed from model {before} to model {after}?", document, html)
        answer(document, show)


@app.command("index")
def audit_index(
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page of all, and one for each model.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every model and its verdict, over all dataset versions."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit import models

        opened = open_here(environment)
        if html is not None:
            from petpark_assets.domain.audit import pages

            say(f"wrote {pages.write_index(opened, html)} pages of models beside {html}")
        answer(models.list_models(opened), lambda rows: show_table("index", rows))


@app.command("bundle")
def audit_bundle(
    model: ModelArgument,
    to: Annotated[Path, typer.Option("--to", callback=in_utf8, help="The zip file to write; it must not exist.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all that an auditor needs of a model as one zip, with a verifier that runs on a bare Python."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit.bundle import write_bundle

        answer(write_bundle(open_here(environment), model, to, key_file=environment.signing_key), show_fields)


def _draw(question: str, document: Mapping[str, Any], html: Path | None) -> None:
    if html is not None:
        from petpark_assets.domain.audit import pages

        pages.write_answer(question, document, html)
