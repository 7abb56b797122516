"""`petpark`: what a person types. Thin: each verb calls what the assets call, and prints what comes back.

Exit codes: 0 done, 1 refused or failed with a named reason, 2 wrong usage, 130 stopped. Never a traceback.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from petpark_assets.resources.environments import PROJECT_FOLDER, Environment, enter_home, open_here
from petpark_assets.terminal import answering, say, show_build, show_rows, showing_progress, terminal
from petpark_assets.verbs import audit, backup, lake, operations, registry
from petpark_assets.verbs.options import (
    HomeOption,
    JsonOption,
    LabelsOption,
    LakeOption,
    RecipeOption,
    enter,
    in_utf8,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a lake of cat and dog photos to a registered classifier. Exit codes: 0 done, 1 refused or failed "
    "with a named reason, 2 wrong usage.",
)
app.add_typer(lake.app, name="lake")
app.add_typer(registry.app, name="registry")
app.add_typer(audit.app, name="audit")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)

DEMO_HOME = Path(".petpark-demo")


@app.command()
def demo(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Draw a small lake of cats and dogs, once, and build it from photos to a registered model."""
    environment = enter(home or DEMO_HOME, as_json=as_json)
    photos = environment.home / "lake"
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        if not photos.exists():
            from petpark_assets.domain.lake.drawn import draw_lake

            say(f"drawing a lake of cats and dogs in {photos}")
            draw_lake(photos)
        summary = _build(environment, str(photos), "demo")
        answer(summary, lambda document: _show_demo(document, environment))
    raise typer.Exit(_exit_code(summary))


@app.command()
def build(
    lake_uri: LakeOption,
    labels: LabelsOption = None,
    recipe: RecipeOption = "laptop",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the newest version of a lake: from its photos to a registered model, or to a named rejection."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        summary = _build(environment, lake_uri, recipe, labels)
        answer(summary, show_build)
    raise typer.Exit(_exit_code(summary))


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Where the Dagster UI listens, on 127.0.0.1.")] = 3000,
    reports_port: Annotated[int, typer.Option(help="Where the home's reports are served, on 127.0.0.1.")] = 3001,
    home: HomeOption = None,
) -> None:
    """Open the Dagster UI with its daemon on this home, and serve the home's reports, on 127.0.0.1 only."""
    environment = enter(home, as_json=False)
    from petpark_assets.resources.reports import serve_reports

    reports = serve_reports(environment.home / "reports", reports_port)
    with answering(as_json=False, errors_folder=environment.home), reports as url:
        if not (environment.home / "dagster").exists():
            from petpark_assets import launch  # loads Dagster

            launch.make_databases(environment)
        enter_home(environment.home, reports_url=url, ui_url=f"http://127.0.0.1:{port}")
        terminal.print(f"Dagster UI: http://127.0.0.1:{port}   reports: {url}   (Ctrl-C stops both)")
        code = _run_until_stopped(["dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)])
    raise typer.Exit(code)


@app.command()
def classify(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", callback=in_utf8, help="Photos of any size.")],
    model: Annotated[str, typer.Option("--model", help="A model version (3 or v3) or an alias.")] = "champion",
    int8: Annotated[bool, typer.Option("--int8", help="Ask its faster 8 bit variant.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say cat or dog for each photo, with the champion or any version asked for."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.workflow import registration

        rows = registration.classify(open_here(environment), photos, model, variant="int8" if int8 else "float32")
        answer(rows, show_rows)
    raise typer.Exit(int(any(row["error"] for row in rows)))


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(operations.serve)
app.command()(operations.upgrade)


def main() -> None:
    """The console script."""
    app(prog_name="petpark")


def _build(environment: Environment, lake_uri: str, recipe: str, labels: list[str] | None = None) -> dict[str, Any]:
    from petpark_assets import launch  # loads Dagster

    with showing_progress():
        return launch.build_lake(environment, lake_uri, recipe, labels=labels, show=say)


def _exit_code(summary: dict[str, Any]) -> int:
    return 0 if summary["is_accepted"] or summary["overridden_by"] else 1


def _show_demo(summary: dict[str, Any], environment: Environment) -> None:
    show_build(summary)
    home = f"--home {shlex.quote(os.path.relpath(environment.home))}"
    petpark = "petpark" if shutil.which("petpark") else os.path.relpath(Path(sys.executable).with_name("petpark"))
    photo = shlex.quote(os.path.relpath(_any_photo(environment, summary["dataset_version"])))
    terminal.print("next:", style="bold")
    for command in (
        f"dev {home}",
        f"classify {photo} {home}",
        f"registry show champion {home}",
        f"registry download champion --to model {home}",
        "build --lake YOUR/PHOTOS --recipe laptop",
    ):
        terminal.print(f"  {petpark} {command}", markup=False, soft_wrap=True)


def _any_photo(environment: Environment, version: str) -> Path:
    """One that was accepted: the lake is the person's by now, with names of theirs."""
    from petpark_assets.domain.lake.catalogue import stream_rows

    rows = stream_rows(open_here(environment).store, version, ("key", "state"))
    return environment.home / "lake" / next(str(key) for key, state in rows if state == "accepted")


def _run_until_stopped(arguments: list[str]) -> int:
    """Run `dagster` in a process group of its own and end the whole group on Ctrl-C or TERM."""
    command = [sys.executable, "-m", "dagster", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script that starts us with & ignores it for us too
    process = subprocess.Popen(command, cwd=PROJECT_FOLDER, start_new_session=True)  # noqa: S603 - our own words only

    def end_all() -> None:
        with contextlib.suppress(ProcessLookupError):  # they have just ended by themselves
            os.killpg(process.pid, signal.SIGINT)

    for ending in (signal.SIGTERM, signal.SIGHUP):  # also when the terminal is closed
        signal.signal(ending, lambda *_: end_all())
    try:
        return process.wait()
    except KeyboardInterrupt:
        end_all()
        return process.wait()


if __name__ == "__main__":
    main()
