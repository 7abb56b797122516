"""The one reader of the process's environment: where this process works, as whom, and with which engines.

It holds the whole table of variables. A variable gets its row here and in README before it is read.
Not here: what a value must be (values.py), where secrets come from (secret_sources.py), or what is done with it.
"""

import getpass
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import find_recipe
from petpark_assets.domain.s3.access import SCHEME, S3Access
from petpark_assets.resources.alerts import Alerts, parse_receivers
from petpark_assets.resources.secret_sources import FROM_AWS, FROM_FILE, fetched
from petpark_assets.resources.values import (
    check_utf8,
    checked_database,
    checked_files,
    checked_job_server,
    checked_lake,
    checked_ledger,
    checked_number,
    checked_queue,
    checked_registry,
    checked_store,
)

if TYPE_CHECKING:
    from petpark_assets.domain.home import Home

PROFILES = ("local", "ci", "production")
"""`local` is a person's machine; `ci` works as it does, by a name of its own, which the tests run under; `production`
is many machines."""

PRODUCTION = "production"

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
"""The checkout: holds dagster.yaml and workspace.yaml, and those of production in `infra/`."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One row of the table."""

    name: str
    what: str
    default: str = "none"
    """In words; what holds where it is not set."""
    is_required: bool = False
    """Whether production does not work without it; nothing is required elsewhere."""
    is_secret: bool = False


TABLE = (
    Variable(name="PETPARK_ENV", what="the profile: local, ci or production", default="local"),
    Variable(name="PETPARK_HOME", what="the home: all local state", default=".petpark"),
    Variable(name="PETPARK_STORE", what="where what must last is kept", default="store/ in the home", is_required=True),
    Variable(name="PETPARK_LAKE", what="the lake that sensors look at", default="that of the newest version"),
    Variable(name="PETPARK_LAKE_QUEUE", what="the queue of that lake's events", default="none: the lake is listed"),
    Variable(name="PETPARK_RECIPE", what="recipe of runs that are not told another", default="laptop"),
    Variable(name="PETPARK_ARRIVALS", what="photos that make a version at once", default="100"),
    Variable(name="PETPARK_ARRIVALS_WAIT_H", what="hours after which fewer do", default="6"),
    Variable(name="PETPARK_ACTOR", what="who, in records and in the ledger", default="the system's user"),
    Variable(name="PETPARK_PHOTOS", what="a folder of real photos, for tests and benchmarks"),
    Variable(name="PETPARK_REPORTS_URL", what="where links find the reports", default="http://127.0.0.1:3001"),
    Variable(name="PETPARK_UI_URL", what="the UI that links in alerts lead to", default="http://127.0.0.1:3000"),
    Variable(name="PETPARK_ALERT_WEBHOOK", what="an address that is told of failed runs", is_secret=True),
    Variable(name="PETPARK_ALERT_EMAIL", what="who is told by e-mail, and by whose server", is_secret=True),
    Variable(name="PETPARK_DATABASE", what="PostgreSQL of Dagster", default="SQLite", is_required=True, is_secret=True),
    Variable(
        name="PETPARK_LEDGER",
        what="PostgreSQL of the ledger",
        default="a file of the home",
        is_required=True,
        is_secret=True,
    ),
    Variable(name="PETPARK_LOGS_BUCKET", what="bucket of what steps print", default="the home", is_required=True),
    Variable(name="PETPARK_CODE_HOST", what="where Dagster's code server is", default="127.0.0.1"),
    Variable(name="PETPARK_CODE_PORT", what="and its port", default="4000"),
    Variable(name="MLFLOW_TRACKING_URI", what="MLflow's server", default="SQLite in the home", is_required=True),
    Variable(name="MLFLOW_TRACKING_USERNAME", what="who the platform is, where a proxy before that server asks"),
    Variable(name="MLFLOW_TRACKING_PASSWORD", what="and its password", is_secret=True),
    Variable(name="MLFLOW_BACKEND_STORE_URI", what="the database of MLflow's server, for that alone", is_secret=True),
    Variable(name="MLFLOW_ARTIFACTS_DESTINATION", what="where that server keeps files"),
    Variable(name="PETPARK_SIGNING_KEY", what="file of the key that bundles are signed with", default="the home's own"),
    Variable(name="PETPARK_PROXY_SECRET", what="what the login proxy shares", is_required=True, is_secret=True),
    Variable(name="RAY_ADDRESS", what="the Ray cluster", default="a local Ray", is_required=True),
    Variable(
        name="RAY_AUTH_TOKEN", what="its token", default="a new one for a local Ray", is_required=True, is_secret=True
    ),
    Variable(
        name="RAY_API_SERVER_ADDRESS",
        what="its dashboard, which takes jobs",
        default="none: steps drive Ray",
        is_required=True,
    ),
    Variable(name="PETPARK_TRAINING_GPUS", what="GPUs that a training's job waits for", default="0"),
    Variable(name="DAGSTER_HOME", what="the folder of dagster.yaml", default="set by petpark"),
    Variable(name="PETPARK_DAGSTER", what="dagster/ in the home", default="set by petpark"),
)
"""Every variable that is ours or that we read. AWS's own are read by boto3 (aws.py)."""

SECRETS = tuple(row.name for row in TABLE if row.is_secret)
REQUIRED = tuple(row.name for row in TABLE if row.is_required)


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
    registry: str | None = None
    """MLflow's server, `http(s)://host:port`, without a password; None for SQLite in the home."""
    database: str | None = field(default=None, repr=False)
    """PostgreSQL of Dagster in production, with its driver and its password."""
    ledger: str | None = field(default=None, repr=False)
    """PostgreSQL of the ledger, and of the locks of who shares it, with its password; None for a file of the home."""
    code_server: tuple[str, int] = ("127.0.0.1", 4000)
    """Where the webserver and the daemon find Dagster's code server in production."""
    signing_key: Path | None = None
    """The private key that packages are signed with in bundles, if not the home's own; its path is no secret."""

    def at(self, home: Path) -> "Environment":
        """The same with its home in another folder; a store within the home is within that one."""
        store, here = self.store, self.home.resolve()
        if store is not None and not store.startswith(SCHEME) and Path(store).resolve().is_relative_to(here):
            store = str(home / Path(store).resolve().relative_to(here))
        return replace(self, home=home, store=store)


def read_environment(variables: Mapping[str, str] = os.environ, *, required: Iterable[str] = REQUIRED) -> Environment:
    """The environment of this process, which in production must have what is required.

    Raises InvalidInput: what is missing, or whose value cannot be used.
    """
    variables = fetched(variables, SECRETS)
    name = _checked_profile(variables, required)
    photos = variables.get("PETPARK_PHOTOS")
    home = Path(variables.get("PETPARK_HOME", ".petpark")).absolute()
    check_utf8({**variables, "PETPARK_HOME": str(home)}, (row.name for row in TABLE))
    return Environment(
        name=name,
        home=home,
        actor=variables.get("PETPARK_ACTOR") or _system_user(),
        photos=Path(photos).absolute() if photos else None,
        ray_address=variables.get("RAY_ADDRESS") or None,
        ray_jobs_address=checked_job_server(variables.get("RAY_API_SERVER_ADDRESS")),
        training_gpus=checked_number(variables, "PETPARK_TRAINING_GPUS", Environment.training_gpus, least=0),
        reports_url=variables.get("PETPARK_REPORTS_URL", Environment.reports_url),
        store=checked_store(variables.get("PETPARK_STORE"), must_be_shared=name == PRODUCTION),
        alerts=Alerts(
            receivers=parse_receivers(variables.get("PETPARK_ALERT_WEBHOOK"), variables.get("PETPARK_ALERT_EMAIL")),
            ui_url=variables.get("PETPARK_UI_URL", Alerts.ui_url).rstrip("/"),
        ),
        lake=checked_lake(variables.get("PETPARK_LAKE")),
        lake_queue=checked_queue(variables.get("PETPARK_LAKE_QUEUE")),
        recipe=find_recipe(variables.get("PETPARK_RECIPE") or Environment.recipe).name,
        arrivals=int(checked_number(variables, "PETPARK_ARRIVALS", Environment.arrivals, least=1)),
        arrivals_wait_h=checked_number(variables, "PETPARK_ARRIVALS_WAIT_H", Environment.arrivals_wait_h, least=0),
        registry=checked_registry(variables.get("MLFLOW_TRACKING_URI")),
        database=checked_database("PETPARK_DATABASE", variables.get("PETPARK_DATABASE")),
        ledger=checked_ledger(variables.get("PETPARK_LEDGER"), variables.get("PETPARK_DATABASE")),
        code_server=(
            variables.get("PETPARK_CODE_HOST") or Environment.code_server[0],
            int(checked_number(variables, "PETPARK_CODE_PORT", Environment.code_server[1], least=1)),
        ),
        signing_key=Path(variables["PETPARK_SIGNING_KEY"]).absolute() if variables.get("PETPARK_SIGNING_KEY") else None,
    )


def ledger_here() -> str | None:
    """The ledger's PostgreSQL for a step, whose resources are shown and hold no password. Raises InvalidInput."""
    variables = fetched(os.environ, ("PETPARK_LEDGER", "PETPARK_DATABASE"))
    return checked_ledger(variables.get("PETPARK_LEDGER"), variables.get("PETPARK_DATABASE"))


def ray_token() -> str | None:
    """The Ray cluster's token; Ray itself reads only what was set before it was imported. Raises InvalidInput."""
    return fetched(os.environ, ("RAY_AUTH_TOKEN",)).get("RAY_AUTH_TOKEN") or None


def mlflow_database(environment: Environment) -> str:
    """The database of MLflow's server, or the home's own where there is no server. Raises InvalidInput."""
    variables, name = fetched(os.environ, SECRETS), "MLFLOW_BACKEND_STORE_URI"
    if environment.registry is None and not variables.get(name):
        return f"sqlite:///{environment.home / 'mlflow' / 'mlflow.db'}"
    _require(variables, [name], f"MLflow's server is {environment.registry}")
    return str(checked_database(name, variables[name]))


def mlflow_files(environment: Environment) -> str:
    """Where MLflow's server keeps its files, for whoever copies them. Raises InvalidInput with all that is missing."""
    variables, names = fetched(os.environ, SECRETS), ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION")
    _require(variables, names, f"MLflow's server is {environment.registry}")
    return checked_files(names[1], variables[names[1]])


def logs_place() -> str:
    """Where Dagster's processes keep what steps print in production, as infra/dagster.yaml says."""
    return f"{SCHEME}{os.environ['PETPARK_LOGS_BUCKET']}/dagster"


def _checked_profile(variables: Mapping[str, str], required: Iterable[str]) -> str:
    """The profile's name. Raises InvalidInput for an unknown one, or with the list of all that it misses."""
    name = variables.get("PETPARK_ENV") or PROFILES[0]
    if name not in PROFILES:
        raise InvalidInput(f"PETPARK_ENV is {name!r}: it must be one of {', '.join(PROFILES)}")
    if name == PRODUCTION:
        _require(variables, required, f"PETPARK_ENV is {name}")
    return name


def _require(variables: Mapping[str, str], names: Iterable[str], why: str) -> None:
    """Raise InvalidInput, in one line, with every one of these variables that is not set."""
    missing = [name for name in names if not variables.get(name, "").strip()]
    if missing:
        raise InvalidInput(
            f"{why}, and these are not set: {', '.join(missing)}; a secret may also be given by its name with "
            f"{FROM_FILE} or {FROM_AWS} behind it (infra/README.md has the table)"
        )


def instance_folder(profile: str | None) -> Path:
    """The folder of a profile's dagster.yaml and workspace.yaml."""
    return PROJECT_FOLDER / "infra" if profile == PRODUCTION else PROJECT_FOLDER


def process_variables() -> Mapping[str, str]:
    """All variables of this process."""
    return os.environ


def variables_to_name() -> Mapping[str, str]:
    """Those that a person may name as the address of labels: whoever launches a run would else read our own engines."""
    own = {row.name + place for row in TABLE for place in ("", FROM_FILE, FROM_AWS)}
    return {name: value for name, value in os.environ.items() if name not in own}


def job_variables(store: str, actor: str) -> dict[str, str]:
    """What a Ray job is told by variables. Ray shows them: no secret is among them, nor an address that holds one."""
    told = {"PETPARK_STORE": store, "PETPARK_ACTOR": actor}
    registry = os.environ.get("MLFLOW_TRACKING_URI", "")
    return {**told, "MLFLOW_TRACKING_URI": registry} if registry and "@" not in registry else told


def enter_job(home: Path) -> Environment:
    """The environment of a Ray job: its node's own, with this home where the node names none.

    Nodes of GPUs know neither Dagster's database nor the login's secret: a job needs what it is told, and no more.
    """
    _settle_secrets()  # MLflow's client reads its password by itself
    _settle_region()
    enter_home(Path(os.environ.get("PETPARK_HOME") or home))
    return read_environment(required=("PETPARK_STORE",))


def s3_access() -> S3Access:
    """Keys for S3 without Dagster; called only where S3 is used, since boto3 takes half a second to load."""
    from petpark_assets.resources import aws

    return aws.s3_access()


def open_here(environment: Environment) -> "Home":
    """The home of an environment, opened: what a terminal works with. A step has its own (resources/home.py)."""
    from petpark_assets.domain.home import open_home

    return open_home(
        environment.home,
        actor=environment.actor,
        store_uri=environment.store,
        registry_uri=environment.registry,
        ledger_url=environment.ledger,
        s3=s3_access,
        variables=variables_to_name(),
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
    os.environ["DAGSTER_HOME"] = str(instance_folder(os.environ.get("PETPARK_ENV")))
    os.environ["PETPARK_DAGSTER"] = str(home.absolute() / "dagster")  # dagster.yaml cannot join a folder to a variable
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "true"  # it is off; Dagster's services make folders for it all the same


def enter_profile(home: Path | None = None) -> Environment:
    """Point this process, and whatever it starts, at a home and at the engines of its profile; what it now is.

    Secrets are fetched once, here, and are then variables of this process: Dagster's configuration and Ray know no
    other place. Raises what `read_environment` raises.
    """
    _settle_secrets()
    _settle_region()
    if home is not None:
        enter_home(home)
    environment = read_environment()
    enter_home(environment.home)
    if environment.name == PRODUCTION:
        assert environment.database is not None  # production requires it
        host, port = environment.code_server
        os.environ |= {
            "PETPARK_DATABASE": environment.database,
            "PETPARK_CODE_HOST": host,
            "PETPARK_CODE_PORT": str(port),
            "RAY_AUTH_MODE": "token",  # or clients say no more than that they failed to connect
        }
    return environment


def _settle_secrets() -> None:
    settled = fetched(os.environ, SECRETS)
    for name in SECRETS:
        for place in (name + FROM_FILE, name + FROM_AWS):
            os.environ.pop(place, None)
        if name in settled:
            os.environ[name] = settled[name]


def _settle_region() -> None:
    """Tell boto3 too, which alone among AWS's tools does not read AWS_REGION: Dagster's logs and MLflow's files."""
    if os.environ.get("AWS_REGION"):
        os.environ.setdefault("AWS_DEFAULT_REGION", os.environ["AWS_REGION"])


def enter_mlflow() -> None:
    """Give MLflow's own server what it reads from the environment: a command line, and a password in it, all can see.

    Raises InvalidInput with all that is missing.
    """
    _settle_region()
    database, files = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"
    _require(os.environ, (database, files), "MLflow's server needs a database and a place for files")
    os.environ[database] = str(checked_database(database, os.environ[database]))
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # eight processes, 1.2 GiB, for what we do not use
