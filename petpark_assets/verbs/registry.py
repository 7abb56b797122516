"""`petpark registry`: registered models: see, download and promote them."""

from pathlib import Path
from typing import Annotated

import typer

from petpark_assets.resources.environments import open_here
from petpark_assets.terminal import answering, show_fields, show_history, show_rows
from petpark_assets.verbs.options import HomeOption, JsonOption, ModelArgument, enter

app = typer.Typer(no_args_is_help=True, help="Registered models: see, download and promote them.")


@app.command("list")
def registry_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every registered version, with its aliases and accuracy."""
    environment = enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.describe_models(open_here(environment)), show_rows)


@app.command("show")
def registry_show(model: ModelArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One version with its files and the digests of every parent."""
    environment = enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.describe_model(open_here(environment), model), show_fields)


@app.command("download")
def registry_download(
    model: ModelArgument,
    to: Annotated[Path, typer.Option("--to", help="The folder to write; it must be empty or not exist.")],
    file: Annotated[str | None, typer.Option("--file", help="Only this file of the package.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download a version, whole or one file, with every sum verified."""
    environment = enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        paths = open_here(environment).registry.download(model, to, file)
        answer([{"file": str(path)} for path in paths], show_rows)


@app.command("promote")
def registry_promote(
    model: ModelArgument,
    by: Annotated[str, typer.Option("--by", help="Who decides.")],
    because: Annotated[str, typer.Option("--because", help="Why; it stays in the ledger.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion, by a person's decision."""
    environment = enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.promote(open_here(environment), model, by=by, because=because), show_fields)


@app.command("history")
def registry_history(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every registration and every move of an alias: when, who, and why."""
    environment = enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.registry.versions import history

        answer(history(open_here(environment).ledger.events()), show_history)
