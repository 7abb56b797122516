"""The one reader of the process's environment: where this process works, as whom, and with which engines.

Not here: what is done with it. A variable gets its row in README before it is read here.
"""

import getpass
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import find_recipe
from petpark_assets.domain.s3.access import SCHEME, S3Access, parse_place
from petpark_assets.resources.alerts import Alerts, parse_receivers
from petpark_assets.resources.lake_queue import check_queue

if TYPE_CHECKING:
    from petpark_assets.domain.home import Home

ENVIRONMENTS = ("local", "ci")
"""`local` is a person's machine; `ci` is the same with nothing that asks or draws."""

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
"""The checkout: holds dagster.yaml and workspace.yaml."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the environment says, checked once."""

    name: str
    home: Path
    """Absolute; everything this process keeps is under it."""
    actor: str
    """Who is noted in records and in the ledger."""
    photos: Path | None
    """A folder of real photos, for tests and benchmarks."""
    ray_address: str | None
    """A Ray cluster to use instead of a Ray of our own."""
    ray_jobs_address: str | None = None
    """The http(s) address of a Ray cluster's job server: searches and trainings are submitted there as jobs."""
    training_gpus: float = 0.0
    """GPUs that the job of a training waits for; with 0 it runs on the cluster's head."""
    reports_url: str = "http://127.0.0.1:3001"
    """Where `petpark dev` serves the home's reports: what links in the UI lead to."""
    store: str | None = None
    """Where what must last is kept, if not in the home: `s3://bucket/prefix`, or an absolute folder."""
    alerts: Alerts = field(default_factory=Alerts)
    """Who is told of failures, and the UI that their links lead to."""
    lake: str | None = None
    """The lake that sensors watch, if not that of the newest version: `s3://bucket/prefix`, or an absolute folder."""
    lake_queue: str | None = None
    """The queue that the lake's bucket tells what happens in it; without one the sensor lists the lake."""
    recipe: str = "laptop"
    """Of runs that are not told another: those of sensors, and of the UI."""
    arrivals: int = 100
    """New, changed or removed photos for which a version is made at once ..."""
    arrivals_wait_h: float = 6.0
    """... and the hours after which fewer do."""
    signing_key: Path | None = None
    """The private key that packages are signed with in bundles, if not the home's own; its path is no secret."""


def read_environment(variables: Mapping[str, str] = os.environ) -> Environment:
    """The environment of this process. Raises InvalidInput, naming the variable whose value cannot be used."""
    name = variables.get("PETPARK_ENV", "local")
    if name not in ENVIRONMENTS:
        raise InvalidInput(f"PETPARK_ENV is {name!r}: it must be one of {', '.join(ENVIRONMENTS)}")
    photos = variables.get("PETPARK_PHOTOS")
    return Environment(
        name=name,
        home=Path(variables.get("PETPARK_HOME", ".petpark")).absolute(),
        actor=variables.get("PETPARK_ACTOR") or _system_user(),
        photos=Path(photos).absolute() if photos else None,
        ray_address=variables.get("RAY_ADDRESS") or None,
        ray_jobs_address=_checked_job_server(variables.get("RAY_API_SERVER_ADDRESS")),
        training_gpus=_number(variables, "PETPARK_TRAINING_GPUS", Environment.training_gpus, least=0),
        reports_url=variables.get("PETPARK_REPORTS_URL", Environment.reports_url),
        store=_checked_store(variables.get("PETPARK_STORE")),
        alerts=Alerts(
            receivers=parse_receivers(variables.get("PETPARK_ALERT_WEBHOOK"), variables.get("PETPARK_ALERT_EMAIL")),
            ui_url=variables.get("PETPARK_UI_URL", Alerts.ui_url).rstrip("/"),
        ),
        lake=_checked_lake(variables.get("PETPARK_LAKE")),
        lake_queue=check_queue(variables.get("PETPARK_LAKE_QUEUE")),
        recipe=find_recipe(variables.get("PETPARK_RECIPE") or Environment.recipe).name,
        arrivals=int(_number(variables, "PETPARK_ARRIVALS", Environment.arrivals, least=1)),
        arrivals_wait_h=_number(variables, "PETPARK_ARRIVALS_WAIT_H", Environment.arrivals_wait_h, least=0),
        signing_key=Path(variables["PETPARK_SIGNING_KEY"]).absolute() if variables.get("PETPARK_SIGNING_KEY") else None,
    )


def _checked_store(uri: str | None) -> str | None:
    if not uri:
        return None
    if uri.startswith(SCHEME):
        return parse_place(uri, "store").uri
    if not Path(uri).is_absolute():  # Dagster's processes work in other folders
        raise InvalidInput("PETPARK_STORE must be s3://bucket/prefix, or an absolute folder")
    return uri


def _checked_lake(uri: str | None) -> str | None:
    """Absolute, since Dagster's processes work in other folders; never with a secret, since the UI shows it."""
    if not uri or uri.startswith("file://"):
        return uri or None
    if uri.startswith(SCHEME):
        return parse_place(uri, "lake").uri
    if "://" in uri:
        raise InvalidInput("PETPARK_LAKE must be s3://bucket/prefix, or a folder")
    return str(Path(uri).expanduser().absolute())


def _checked_job_server(address: str | None) -> str | None:
    """Ray's own variable for its dashboard's address. Without a password, since the UI shows it."""
    if address and (not address.startswith(("http://", "https://")) or "@" in address):
        raise InvalidInput("RAY_API_SERVER_ADDRESS must be http(s)://host:port, without a password")
    return address.rstrip("/") if address else None


def _number(variables: Mapping[str, str], name: str, default: float, *, least: float) -> float:
    try:
        value = float(variables.get(name) or default)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise InvalidInput(f"{name} is {variables[name]!r}: it must be a number, {least} or more")
    return value


def process_variables() -> Mapping[str, str]:
    """All variables of this process, for those whom a person tells the name of one."""
    return os.environ


def job_variables(store: str, actor: str) -> dict[str, str]:
    """What a Ray job is told by variables. Ray shows them: no secret is among them, nor an address that holds one."""
    told = {"PETPARK_STORE": store, "PETPARK_ACTOR": actor}
    registry = os.environ.get("MLFLOW_TRACKING_URI", "")
    return {**told, "MLFLOW_TRACKING_URI": registry} if registry and "@" not in registry else told


def enter_job(home: Path) -> Environment:
    """The environment of a Ray job: its node's own, with this home where the node names none."""
    enter_home(Path(os.environ.get("PETPARK_HOME") or home))
    return read_environment()


def s3_access() -> S3Access:
    """Keys for S3 without Dagster's configuration; called only where S3 is used, since boto3 takes seconds to load."""
    from petpark_assets.resources.s3 import S3Connection

    return S3Connection().access()


def open_here(environment: Environment) -> "Home":
    """The home of an environment, opened: what a terminal works with. A step has its own (resources/home.py)."""
    from petpark_assets.domain.home import open_home

    return open_home(
        environment.home,
        actor=environment.actor,
        store_uri=environment.store,
        s3=s3_access,
        variables=process_variables(),
    )


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that no user has
        return f"uid {os.getuid()}"


def enter_home(home: Path, *, reports_url: str | None = None, ui_url: str | None = None) -> None:
    """Point this process, and Dagster in it and below it, at a home: the one writer of the environment."""
    if reports_url is not None:
        os.environ["PETPARK_REPORTS_URL"] = reports_url
    if ui_url is not None:
        os.environ.setdefault("PETPARK_UI_URL", ui_url)  # a proxy in front has its own address
    os.environ["PETPARK_HOME"] = str(home.absolute())
    os.environ["DAGSTER_HOME"] = str(PROJECT_FOLDER)
    os.environ["PETPARK_DAGSTER"] = str(home.absolute() / "dagster")  # dagster.yaml cannot join a folder to a variable
