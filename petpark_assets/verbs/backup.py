"""`petpark backup` and `petpark restore`: nothing is lost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from petpark_assets.domain.s3.access import SCHEME
from petpark_assets.resources.environments import (
    PRODUCTION,
    Environment,
    logs_place,
    mlflow_database,
    mlflow_files,
    open_here,
    s3_access,
)
from petpark_assets.terminal import answering, show_rows, show_sections
from petpark_assets.verbs.options import HomeOption, JsonOption, enter, in_utf8

if TYPE_CHECKING:
    from petpark_assets.domain.backup.snapshot import Engines
    from petpark_assets.domain.files import Store

PlaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLACE",
        callback=in_utf8,
        help="A folder or s3://bucket/prefix with nothing but backups of one home.",
    ),
]


def backup(
    place: PlaceArgument,
    is_list: Annotated[
        bool, typer.Option("--list", help="Only list what backups there are, and what each has lost.")
    ] = False,
    is_read: Annotated[
        bool, typer.Option("--verify", help="Read what is there too: find changed bytes, and write them again.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy what is new of the whole home to a place, while a build may run; forgotten photos are removed there."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home) as answer:
        from petpark_assets.domain.backup import checking, making

        opened = _open_place(place, environment)
        if is_list:
            answer(checking.describe(opened, is_read=is_read), show_rows)
        else:
            made = making.make(open_here(environment), opened, _engines(environment), is_read=is_read)
            answer(made, show_sections)


def restore(
    place: PlaceArgument,
    number: Annotated[int | None, typer.Option("--number", help="Of the backup; without it: the last.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the home again from a backup, every digest verified; there must be none."""
    environment = enter(home, as_json=as_json)
    with answering(as_json=as_json, errors_folder=environment.home.parent) as answer:
        from petpark_assets.domain.backup import restoring

        answer(
            restoring.restore(
                _open_place(place, environment),
                environment.home,
                lambda root: open_here(environment.at(root)),
                _engines(environment),
                number=number,
            ),
            show_sections,
        )


def _open_place(uri: str, environment: Environment) -> "Store":
    if uri.startswith(SCHEME):
        from petpark_assets.domain.s3.store import S3Store

        return S3Store(uri, s3_access(), environment.home / "cache" / "backup")
    from petpark_assets.domain.files import LocalStore

    return LocalStore(Path(uri).expanduser())


def _engines(environment: Environment) -> "Engines":
    """Servers that keep a part of the home's state. Raises InvalidInput where it is not said what they keep it in."""
    from petpark_assets.domain.backup.snapshot import Engines

    databases, artifacts, logs = {}, None, None
    if environment.registry is not None:
        artifacts = _open_place(mlflow_files(environment), environment)
        databases["mlflow"] = mlflow_database(environment)
    if environment.name == PRODUCTION:
        logs = _open_place(logs_place(), environment)
        databases["dagster"] = str(environment.database)
    return Engines(postgresql=databases, artifacts=artifacts, logs=logs)
