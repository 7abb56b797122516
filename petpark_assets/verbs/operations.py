"""`petpark serve` and `petpark upgrade`: what an operator types where the platform's parts are long-lived processes.

Each part is an existing server, started with what this profile says and with its secrets fetched; none of them is ours.
Not here: where the parts run (infra/README.md), or all of them on one machine (infra/production/).
"""

import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from petpark_assets.resources.environments import (
    PRODUCTION,
    PROJECT_FOLDER,
    Environment,
    enter_mlflow,
    instance_folder,
    mlflow_database,
)
from petpark_assets.terminal import answering, say, terminal
from petpark_assets.verbs.options import HomeOption, JsonOption, enter

LOOPBACK = "127.0.0.1"


class Part(StrEnum):
    """What can be served."""

    ui = "ui"
    daemon = "daemon"
    code = "code"
    mlflow = "mlflow"
    reports = "reports"


def serve(
    context: typer.Context,
    part: Annotated[
        Part,
        typer.Argument(
            help="ui, daemon and code: Dagster's webserver, its daemon, and the server that holds our code and runs "
            "it; mlflow: MLflow's server; reports: the home's reports. What follows -- is given to the server."
        ),
    ],
    host: Annotated[str, typer.Option(help="Where it listens; only behind a proxy with a login anywhere else.")] = (
        LOOPBACK
    ),
    port: Annotated[int | None, typer.Option(help="3000 for ui, 3001 for reports, 5000 for mlflow by default.")] = None,
    home: HomeOption = None,
) -> None:
    """Be one part of the platform until stopped, in this process."""
    environment = enter(home, as_json=False)
    with answering(as_json=False, errors_folder=environment.home):
        if part is Part.reports:
            _serve_reports(environment, host, port or 3001)
            return
        if environment.name == PRODUCTION and part is not Part.mlflow:
            from petpark_assets.resources.migrations import check_dagster

            check_dagster()
        command = [sys.executable, "-m", *COMMANDS[part](environment, host, port), *context.args]
        os.chdir(PROJECT_FOLDER)
        os.execv(sys.executable, command)  # noqa: S606 - our own words and the operator's, and no shell


def upgrade(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Bring all databases to the versions installed here, after a backup; the same again changes nothing."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.home import open_ledger
        from petpark_assets.resources import migrations

        say("upgrading Dagster's database")
        document: dict[str, Any] = {"dagster": migrations.upgrade_dagster()}
        say("upgrading MLflow's database")
        document["mlflow"] = migrations.upgrade_mlflow(mlflow_database(environment))
        if environment.ledger is not None:
            say("looking for a ledger to move")
            ledger, _ = open_ledger(environment.home, environment.actor, environment.ledger)
            document["ledger_events_moved"] = ledger.take_in()
        answer(document, _show_upgraded)


def _show_upgraded(document: dict[str, Any]) -> None:
    for name in ("dagster", "mlflow"):
        terminal.print(f"{name}: schema {document[name]}")
    if "ledger_events_moved" in document:
        terminal.print(f"ledger: {document['ledger_events_moved']} events moved into its database")


def _ui(environment: Environment, host: str, port: int | None) -> list[str]:
    """In production it answers the login proxy alone."""
    module = "petpark_assets.webserver" if environment.name == PRODUCTION else "dagster_webserver"
    return [module, *_workspace(environment), "--host", host, "--port", str(port or 3000)]


def _daemon(environment: Environment, _host: str, _port: int | None) -> list[str]:
    return ["dagster._daemon", "run", *_workspace(environment)]


def _code(environment: Environment, host: str, port: int | None) -> list[str]:
    where = ["--host", host, "--port", str(port or environment.code_server[1])]
    return ["dagster", "api", "grpc", "-m", "petpark_assets.definitions", *where, "--location-name", "petpark_assets"]


def _mlflow(_environment: Environment, host: str, port: int | None) -> list[str]:
    enter_mlflow()
    return ["mlflow", "server", "--serve-artifacts", "--host", host, "--port", str(port or 5000)]


COMMANDS: dict[Part, Callable[[Environment, str, int | None], list[str]]] = {
    Part.ui: _ui,
    Part.daemon: _daemon,
    Part.code: _code,
    Part.mlflow: _mlflow,
}


def _workspace(environment: Environment) -> list[str]:
    return ["--workspace", str(instance_folder(environment.name) / "workspace.yaml")]


def _serve_reports(environment: Environment, host: str, port: int) -> None:
    from petpark_assets.resources.reports import serve_reports

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    with serve_reports(environment.home / "reports", port, host=host) as url:
        say(f"reports: {url}")
        signal.pause()
