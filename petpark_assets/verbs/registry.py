"""`petpark registry`: registered models: see, download, promote and replay them, and let a rejected one through."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from petpark_assets.resources.environments import open_here
from petpark_assets.terminal import answering, say, show_fields, show_history, show_rows, show_sections
from petpark_assets.verbs.options import ByOption, HomeOption, JsonOption, ModelArgument, enter, in_utf8

app = typer.Typer(no_args_is_help=True, help="Registered models: see, download, promote and replay them.")


@app.command("list")
def registry_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every registered version, with its aliases and accuracy."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.describe_models(open_here(environment)), _show_versions)


@app.command("show")
def registry_show(model: ModelArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One version with its files and the digests of every parent."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.describe_model(open_here(environment), model), show_fields)


@app.command("download")
def registry_download(
    model: ModelArgument,
    to: Annotated[
        Path, typer.Option("--to", callback=in_utf8, help="The folder to write; it must be empty or not exist.")
    ],
    file: Annotated[str | None, typer.Option("--file", help="Only this file of the package.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download a version, whole or one file, with every sum verified."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        paths = registration.download(open_here(environment), model, to, file)
        answer([{"file": str(path)} for path in paths], show_rows)


@app.command("promote")
def registry_promote(
    model: ModelArgument,
    by: ByOption,
    because: Annotated[str, typer.Option("--because", callback=in_utf8, help="Why; it stays in the ledger.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion, by a person's decision."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.promote(open_here(environment), model, by=by, because=because), show_fields)


@app.command("override")
def registry_override(
    attempt: Annotated[
        str, typer.Argument(metavar="ATTEMPT", help="A rejected attempt or its report: 8 or more digits of either.")
    ],
    by: ByOption,
    because: Annotated[
        str,
        typer.Option("--because", callback=in_utf8, help="Why; it stays in the ledger, the package and every page."),
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a rejected model through the gate, by a person's decision; it becomes champion only by `promote`."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.audit.trail import find_model
        from petpark_assets.domain.workflow import gate

        opened = open_here(environment)
        found = find_model(opened, attempt)
        override = gate.let_through(opened, found.dataset_version, found.attempt, by=by, because=because)
        answer(gate.describe(override), show_fields)


@app.command("history")
def registry_history(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every registration, every move of an alias, every override of the gate: when, who, and why."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.registry.versions import history

        answer(history(open_here(environment).ledger.events()), show_history)


@app.command("replay")
def registry_replay(model: ModelArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Train a version again from its record, and compare: the same bits, or on another device near metrics.

    Exit code 0 when the version is reproduced, 1 when it is not.
    """
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow.replay import replay

        document = replay(
            open_here(environment),
            model,
            on_epoch=lambda epoch: say(
                f"epoch {epoch.number} of {epoch.num_epochs}: validation accuracy {epoch.validation_accuracy:.4f}, "
                f"{epoch.seconds:.0f} s"
            ),
        )
        answer(document, _show_replay)
    raise typer.Exit(0 if document["is_reproduced"] else 1)


def _show_versions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Without columns that are empty: most registries never see an override."""
    names = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    show_rows({name: row[name] for name in names} for row in rows)


def _show_replay(document: Mapping[str, Any]) -> None:
    show_sections({name: [] if value is None else value for name, value in document.items()})
