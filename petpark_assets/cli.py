"""`petpark`: what a person types. Thin: each verb calls what the assets call, and prints what comes back.

Exit codes: 0 done, 1 refused or failed with a named reason, 2 wrong usage, 130 stopped. Never a traceback.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import RECIPES
from petpark_assets.resources.environments import PROJECT_FOLDER, Environment, enter_home, read_environment
from petpark_assets.terminal import answering, say, show_build, show_fields, show_history, show_rows, terminal

if TYPE_CHECKING:
    from petpark_assets.domain.home import Home

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a lake of cat and dog photos to a registered classifier. Exit codes: 0 done, 1 refused or failed "
    "with a named reason, 2 wrong usage.",
)
lake_app = typer.Typer(no_args_is_help=True, help="The lake and its versions.")
registry_app = typer.Typer(no_args_is_help=True, help="Registered models: see, download and promote them.")
app.add_typer(lake_app, name="lake")
app.add_typer(registry_app, name="registry")

HomeOption = Annotated[Path | None, typer.Option("--home", help="The home, instead of PETPARK_HOME.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help=f"One of {', '.join(RECIPES)}.")]
LakeOption = Annotated[str, typer.Option("--lake", help="The folder of labelled photos.")]
ModelArgument = Annotated[str, typer.Argument(help="A model version (3 or v3) or an alias (champion).")]

DEMO_HOME = Path(".petpark-demo")


@app.command()
def demo(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Draw a small lake of cats and dogs, once, and build it from photos to a registered model."""
    environment = _enter(home or DEMO_HOME)
    lake = environment.home / "lake"
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        if not lake.exists():
            from petpark_assets.domain.lake.drawn import draw_lake

            say(f"drawing a lake of cats and dogs in {lake}")
            draw_lake(lake)
        summary = _build(environment, str(lake), "demo")
        answer(summary, lambda document: _show_demo(document, environment))
    raise typer.Exit(_exit_code(summary))


@app.command()
def build(
    lake: LakeOption, recipe: RecipeOption = "laptop", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Build the newest version of a lake: from its photos to a registered model, or to a named rejection."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        summary = _build(environment, lake, recipe)
        answer(summary, show_build)
    raise typer.Exit(_exit_code(summary))


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Where the Dagster UI listens, on 127.0.0.1.")] = 3000,
    reports_port: Annotated[int, typer.Option(help="Where the home's reports are served, on 127.0.0.1.")] = 3001,
    home: HomeOption = None,
) -> None:
    """Open the Dagster UI with its daemon on this home, and serve the home's reports, on 127.0.0.1 only."""
    environment = _enter(home)
    from petpark_assets.resources.reports import serve_reports

    reports = serve_reports(environment.home / "reports", reports_port)
    with answering(as_json=False, errors_folder=environment.home), reports as url:
        enter_home(environment.home, reports_url=url)
        terminal.print(f"Dagster UI: http://127.0.0.1:{port}   reports: {url}   (Ctrl-C stops both)")
        code = _run_until_stopped(["dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)])
    raise typer.Exit(code)


@lake_app.command("ingest")
def lake_ingest(
    lake: LakeOption, recipe: RecipeOption = "laptop", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Make the next dataset version, if the lake changed; nothing is trained."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets import launch

        answer(launch.ingest_only(environment, lake, recipe, show=say), show_build)


@lake_app.command("status")
def lake_status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every dataset version: what was accepted, and what was set aside and why."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import ingestion

        answer(ingestion.describe_versions(_open(environment)), show_rows)


@lake_app.command("export")
def lake_export(
    version: Annotated[str, typer.Argument(help="A dataset version: v0001, or 1.")],
    to: Annotated[Path, typer.Option("--to", help="The Parquet file to write; it must not exist.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version's manifest, a row for each photo, as a Parquet file."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import ingestion

        answer(ingestion.export_manifest(_open(environment), version, to), show_fields)


@registry_app.command("list")
def registry_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every registered version, with its aliases and accuracy."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.describe_models(_open(environment)), show_rows)


@registry_app.command("show")
def registry_show(model: ModelArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One version with its files and the digests of every parent."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.describe_model(_open(environment), model), show_fields)


@registry_app.command("download")
def registry_download(
    model: ModelArgument,
    to: Annotated[Path, typer.Option("--to", help="The folder to write; it must be empty or not exist.")],
    file: Annotated[str | None, typer.Option("--file", help="Only this file of the package.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download a version, whole or one file, with every sum verified."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        paths = _open(environment).registry.download(model, to, file)
        answer([{"file": str(path)} for path in paths], show_rows)


@registry_app.command("promote")
def registry_promote(
    model: ModelArgument,
    by: Annotated[str, typer.Option("--by", help="Who decides.")],
    because: Annotated[str, typer.Option("--because", help="Why; it stays in the ledger.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion, by a person's decision."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        answer(registration.promote(_open(environment), model, by=by, because=because), show_fields)


@registry_app.command("history")
def registry_history(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every registration and every move of an alias: when, who, and why."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.registry.versions import history

        answer(history(_open(environment).ledger.events()), show_history)


@app.command()
def classify(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos of any size.")],
    model: Annotated[str, typer.Option("--model", help="A model version (3 or v3) or an alias.")] = "champion",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say cat or dog for each photo, with the champion or any version asked for."""
    environment = _enter(home)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        rows = registration.classify(_open(environment), photos, model)
        answer(rows, show_rows)
    raise typer.Exit(int(any(row["error"] for row in rows)))


def main() -> None:
    """The console script."""
    app(prog_name="petpark")


def _enter(home: Path | None) -> Environment:
    """Work in a home: this process, and whatever it starts."""
    try:
        if home is not None:
            enter_home(home)
        environment = read_environment()
    except InvalidInput as error:
        terminal.print(f"petpark: {error}", markup=False, soft_wrap=True, style="red")
        raise typer.Exit(1) from None
    enter_home(environment.home)
    return environment


def _open(environment: Environment) -> "Home":
    from petpark_assets.domain.home import open_home

    return open_home(environment.home, actor=environment.actor)


def _build(environment: Environment, lake: str, recipe: str) -> dict[str, Any]:
    from petpark_assets import launch  # loads Dagster

    return launch.build_lake(environment, lake, recipe, show=say)


def _exit_code(summary: dict[str, Any]) -> int:
    return 0 if summary["is_accepted"] else 1


def _show_demo(summary: dict[str, Any], environment: Environment) -> None:
    show_build(summary)
    home = f"--home {os.path.relpath(environment.home)}"
    petpark = "petpark" if shutil.which("petpark") else os.path.relpath(Path(sys.executable).with_name("petpark"))
    photo = os.path.relpath(min((environment.home / "lake" / "cat").glob("0*")))
    terminal.print("next:", style="bold")
    for command in (
        f"dev {home}",
        f"classify {photo} {home}",
        f"registry show champion {home}",
        f"registry download champion --to model {home}",
        "build --lake YOUR/PHOTOS --recipe laptop",
    ):
        terminal.print(f"  {petpark} {command}", markup=False, soft_wrap=True)


def _run_until_stopped(arguments: list[str]) -> int:
    """Run `dagster` in a process group of its own and end the whole group on Ctrl-C or TERM."""
    command = [sys.executable, "-m", "dagster", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script that starts us with & ignores it for us too
    process = subprocess.Popen(command, cwd=PROJECT_FOLDER, start_new_session=True)  # noqa: S603 - our own words only
    for ending in (signal.SIGTERM, signal.SIGHUP):  # also when the terminal is closed
        signal.signal(ending, lambda *_: os.killpg(process.pid, signal.SIGINT))
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        return process.wait()


if __name__ == "__main__":
    main()
