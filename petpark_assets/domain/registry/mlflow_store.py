"""MLflow as the keeper of versions, tags, aliases and files: quiet, with clear errors, and only what we need of it.

By default SQLite and a folder under the home. Importing and opening MLflow costs seconds, the first opening some more
(the database's tables), so nothing is opened before it is asked for.
Not here: any rule about versions and aliases (versions.py).
"""

import logging
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from petpark_assets.domain.errors import CorruptData, InvalidInput, TransientError, refused_by_disk
from petpark_assets.domain.files import alone, digest, named_disk_errors
from petpark_assets.domain.records import HyperparameterSearch

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PACKAGE_TAG = "package"
SEARCH_TAG = "hyperparameter_search"
"""The digest of the search's record: on its run and on those of its trials."""
_TRIAL_TAG = "trial"
_PARENT = "all"
_TERMINATED = {"FINISHED", "FAILED"}
_MOST_RUNS = 10_000
_MOST_METRICS = 1000
"""MLflow's own limit of one call."""
_FOLDER = "package"
"""Where a run's artifacts hold the package."""
_BEGUN = ".mlflow.db.part"
"""A database without all of its tables yet, which MLflow takes seconds to make."""
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow reads these while it is imported: reporting to its makers, bars and links are off before they can begin."""


def be_quiet() -> None:
    """Before the first import of MLflow in a process."""
    os.environ.update(_QUIET)


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """What the registry says about one version."""

    version: int
    aliases: tuple[str, ...]
    package: str
    """The package's digest: sha256 of its SHA256SUMS."""
    accuracy: float
    """On the test side, as reported."""
    registered_at: str
    """ISO 8601, UTC."""
    run_id: str
    """MLflow's run that holds the files."""
    tags: Mapping[str, str]
    """Dataset version, attempt, recipe, seed, code version, run, and the digest of every parent by its asset."""


class MlflowStore:
    """One model's versions in MLflow."""

    def __init__(self, folder: Path, model_name: str, tracking_uri: str | None, artifact_root: str | None) -> None:
        """See versions.Registry. Raises InvalidInput for a path that a database's URI cannot spell."""
        self._folder = folder.absolute()
        if {"%", "?"} & set(str(self._folder)):
            raise InvalidInput(f"the registry cannot be kept in {self._folder}: a path with % or ? has no database URI")
        self._model_name = model_name
        self._database = None if tracking_uri else self._folder / "mlflow.db"
        self._tracking_uri = tracking_uri or f"sqlite:///{self._database}"
        is_local = tracking_uri is None and artifact_root is None
        self._artifact_root = (self._folder / "artifacts").as_uri() if is_local else artifact_root

    @property
    def where(self) -> str:
        """Where it is, for messages; never a secret."""
        return str(self._database or urlsplit(self._tracking_uri).hostname or self._tracking_uri)

    def is_empty(self) -> bool:
        """Whether nothing was ever stored, known without opening (or making) a local database."""
        return self._database is not None and not self._database.exists()

    def versions(self) -> list[RegisteredVersion]:
        """All versions, oldest first."""
        if self.is_empty():
            return []
        aliases = self.aliases()
        with self._clear_errors():
            found = self._client.search_model_versions(f"name='{self._model_name}'")
        return sorted((_plain(version, aliases) for version in found), key=lambda plain: plain.version)

    def aliases(self) -> dict[str, int]:
        """Version numbers by alias."""
        with self._clear_errors():
            found = self._client.search_registered_models(f"name='{self._model_name}'")
        return {alias: int(version) for model in found for alias, version in model.aliases.items()}

    def create(self, package_folder: Path, package: str, accuracy: float, tags: Mapping[str, str]) -> None:
        """Files first, then the version with all its tags in one transaction: it never lacks either."""
        with self._clear_errors(), named_disk_errors(self._folder):
            run_id, location = self._run_of(package)
            self._client.log_artifacts(run_id, str(package_folder), _FOLDER)
            self._client.log_metric(run_id, "accuracy", accuracy)
            self._client.set_terminated(run_id)
            if not self._client.search_registered_models(f"name='{self._model_name}'"):
                self._client.create_registered_model(self._model_name)
            source = f"{location}/{_FOLDER}"
            self._client.create_model_version(self._model_name, source, run_id, tags={**tags, PACKAGE_TAG: package})

    def tag(self, version: int, key: str, value: str) -> None:
        """Add one tag to a version."""
        with self._clear_errors():
            self._client.set_model_version_tag(self._model_name, str(version), key, value)

    def set_alias(self, alias: str, version: int) -> None:
        """Let an alias name a version."""
        with self._clear_errors():
            self._client.set_registered_model_alias(self._model_name, alias, str(version))

    def read(self, found: RegisteredVersion, name: str) -> bytes:
        """One file of a version, as it is stored now. Raises CorruptData when it is gone."""
        with tempfile.TemporaryDirectory() as scratch, self._clear_errors():
            from mlflow.artifacts import download_artifacts
            from mlflow.exceptions import MlflowException

            source = f"{self._location(found)}/{name}"
            try:
                return Path(download_artifacts(source, dst_path=scratch, tracking_uri=self._tracking_uri)).read_bytes()
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise CorruptData(f"{name} of version {found.version} is gone from the registry") from error
                raise

    def log_search(self, search: HyperparameterSearch) -> None:
        """A run for a search, and below it one for each trial with its hyperparameters and curve.

        Once, also when called again, or after a crash half-way.
        """
        key = digest(search)
        with self._clear_errors(), named_disk_errors(self._folder):
            experiment = self._experiment(f"{self._model_name} searches")
            found = self._client.search_runs([experiment], f"tags.{SEARCH_TAG} = '{key}'", max_results=_MOST_RUNS)
            is_done = {run.data.tags[_TRIAL_TAG] for run in found if run.info.status in _TERMINATED}
            if _PARENT in is_done:
                return
            for run in found:  # what a crash left behind
                if run.data.tags[_TRIAL_TAG] not in is_done | {_PARENT}:
                    self._client.delete_run(run.info.run_id)
            left = [run for run in found if run.data.tags[_TRIAL_TAG] == _PARENT]
            parent = left[0] if left else self._client.create_run(experiment, tags=_search_tags(search, key))
            for trial in search.trials:
                if str(trial["number"]) not in is_done:
                    self._log_trial(experiment, parent.info.run_id, key, trial)
            self._client.set_terminated(parent.info.run_id)

    def _log_trial(self, experiment: str, parent: str, key: str, trial: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param

        number = str(trial["number"])
        tags = {SEARCH_TAG: key, _TRIAL_TAG: number, "mlflow.parentRunId": parent, "mlflow.runName": f"trial {number}"}
        tags |= {name: str(trial[name]) for name in ("is_default", "schedule_share", "error") if name in trial}
        run_id = self._client.create_run(experiment, tags=tags).info.run_id
        now = int(datetime.now(UTC).timestamp() * 1000)
        metrics = [
            Metric(name, value, now, point["epoch"])
            for point in trial.get("curve", ())
            for name, value in point.items()
            if name != "epoch"
        ]
        parameters = [Param(name, str(value)) for name, value in trial["hyperparameters"].items()]
        self._client.log_batch(run_id, params=parameters)
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(run_id, metrics=metrics[start : start + _MOST_METRICS])
        self._client.set_terminated(run_id, "FAILED" if "error" in trial else "FINISHED")

    def _location(self, found: RegisteredVersion) -> str:
        """By our own folder, not by the path MLflow noted: a home can be moved, or restored elsewhere."""
        if self._artifact_root:
            return f"{self._artifact_root}/{found.run_id}/artifacts/{_FOLDER}"
        with self._clear_errors():
            return str(self._client.get_model_version_download_uri(self._model_name, str(found.version)))

    def _run_of(self, package: str) -> tuple[str, str]:
        """The run that carries a package's files, and where; one that a crash left behind is used again."""
        number = self._experiment(self._model_name)
        left = self._client.search_runs([number], f"tags.{PACKAGE_TAG} = '{package}'", max_results=1)
        run = left[0] if left else self._client.create_run(number, tags={PACKAGE_TAG: package})
        return str(run.info.run_id), str(run.info.artifact_uri)

    def _experiment(self, of: str) -> str:
        """The number of an experiment of ours, made where it is not there."""
        name = f"{of} in {self._artifact_root or self.where}"
        experiment = self._client.get_experiment_by_name(name)
        if experiment:
            return str(experiment.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=self._artifact_root))

    @cached_property
    def _client(self) -> "MlflowClient":
        be_quiet()
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)  # when somebody else imported it first, as Ray Tune does
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # whole stacks of what we say in a line

        with alone(self._folder / "opening.lock"):  # two processes must not make the tables of a new database at once
            if self.is_empty():
                self._make_database()
            self._check_database()
            return MlflowClient(tracking_uri=self._tracking_uri, registry_uri=self._tracking_uri)

    def _make_database(self) -> None:
        """Beside its place, then renamed: one in which a kill left half of the tables MLflow would never open again."""
        from mlflow import MlflowClient

        assert self._database is not None
        self._remove_begun()
        begun = self._folder / f"{_BEGUN}.{secrets.token_hex(4)}"  # MLflow keeps what it opened of a name, also in vain
        try:
            MlflowClient(tracking_uri=f"sqlite:///{begun}").search_experiments(max_results=1)
            begun.replace(self._database)
        except BaseException:
            self._remove_begun()
            raise

    def _remove_begun(self) -> None:
        for left in self._folder.glob(f"{_BEGUN}*"):  # with SQLite's journal
            left.unlink()

    def _check_database(self) -> None:
        """MLflow would try for 95 s to open a file that is no database, and then print its stack."""
        if self._database is None:
            return
        try:
            with closing(sqlite3.connect(self._database)) as connection:
                connection.execute("PRAGMA schema_version")
        except sqlite3.OperationalError as error:
            if refused_by_disk(error, self._folder):
                raise
            raise InvalidInput(f"the model registry {self._database} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise CorruptData(f"{self._database} is not a database any more: restore it from a backup") from error

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """MLflow's refusals in one line, and those of the disk that its database is on."""
        be_quiet()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except Exception as error:
            refusal = refused_by_disk(error, self._folder)
            if refusal is not None:
                with named_disk_errors(self._folder):
                    raise refusal from error
            if not isinstance(error, MlflowException):
                raise
            words = " ".join(str(error).split())[:200]
            raise TransientError(f"the model registry {self.where} did not answer: {words}: try again") from error


def _search_tags(search: HyperparameterSearch, key: str) -> dict[str, str]:
    """Of the run that a search's trials are below: what it was told, and the digests of its parents."""
    names = (
        "dataset_version",
        "attempt",
        "recipe",
        "algorithm",
        "seed",
        "code_version",
        "train_split",
        "feature_scaling",
    )
    told = {name: str(getattr(search, name)) for name in names}
    name = f"search {search.dataset_version} {search.recipe} {search.attempt}"
    return {**told, SEARCH_TAG: key, _TRIAL_TAG: _PARENT, "mlflow.runName": name}


def _plain(found: "ModelVersion", aliases: Mapping[str, int]) -> RegisteredVersion:
    number = int(found.version)
    return RegisteredVersion(
        version=number,
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
        package=found.tags[PACKAGE_TAG],
        accuracy=float(found.tags["accuracy"]),
        registered_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(),
        run_id=str(found.run_id),
        tags=dict(found.tags),
    )
