"""Registered models: immutable versions of one model name, and the aliases that name one of them.

A version is one package, known by its digest. MLflow's registry keeps versions, tags and files, and shows them in
its UI; this room adds what it lacks: the same package is never registered twice, every alias move is recorded before
it happens (MLflow forgets them), and nothing leaves without its sums verified.

    candidate   the newest version
    champion    what `petpark classify` and the service answer with

The rule of succession: each new version is compared once, with the champion of that moment. It becomes champion when
there is none, or when its reported accuracy is higher; each report is on the test side of its own dataset version.
That is fair to both: photos never change sides, so neither has learned from any photo that either was examined on.
A person's `promote` stands until a better version is registered.

Not covered: two machines that register the very same package in the same second (a lock file serves one machine).
Not here: whether a model may be registered (package/contents.py asks the verdict), the ledger (ledger.py).
"""

import fcntl
import importlib
import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petpark_assets.domain import files
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound, TransientError
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.package import contents

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE = "candidate"
CHAMPION = "champion"

_FOLDER = "package"
"""Where a run's artifacts hold the package."""
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow reads these while it is imported: reporting home, bars and links are off before it can begin."""


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
    tags: Mapping[str, str]
    """Dataset version, attempt, recipe, seed, code version, run, and the digest of every parent by its asset."""


class Registry:
    """The versions of one model. Many processes may use it at once; nothing is made before it is written to."""

    def __init__(
        self,
        folder: Path,
        model_name: str,
        *,
        record_event: Callable[[str, Mapping[str, Any]], str],
        tracking_uri: str | None = None,
        artifact_root: str | None = None,
    ) -> None:
        """A registry of this machine, or, with both URIs, one kept elsewhere.

        Args:
            folder: holds the lock, and by default the database (SQLite) and the packages.
            model_name: one name, many versions.
            record_event: appends to the ledger and returns the event's digest.
            tracking_uri: of an MLflow server or database.
            artifact_root: where packages are stored, as a URI.
        """
        self.folder = folder.absolute()
        self.model_name = model_name
        self._record_event = record_event
        self._database = None if tracking_uri else self.folder / "mlflow.db"
        self.tracking_uri = tracking_uri or f"sqlite:///{self._database}"
        self._artifact_root = artifact_root or (self.folder / "artifacts").as_uri()

    def register(self, package_folder: Path, *, tags: Mapping[str, str]) -> int:
        """Make a package a version, or find the version it already is; also after a crash half-way.

        Args:
            package_folder: is checked first; its package.json gives the tags of version, attempt and parents.
            tags: what the package cannot know: the digest of its own record, the run.

        Raises:
            NotFound, CorruptData: it is not a whole package.
            TransientError: the registry cannot be reached.
        """
        package = contents.verify_folder(package_folder)
        with self._writing():
            known = self._of_package(package)
            if known is None:
                known = self._create(package_folder, package, tags)
            if "ledger_event" not in known.tags:
                self._announce(known, package)
            return int(known.version)

    def settle_aliases(self, version: int) -> list[dict[str, Any]]:
        """Apply the rule of succession to every version up to this one that has not met it; returns the moves.

        `candidate` marks how far the rule has been applied, so the same call again moves nothing.
        """
        with self._writing():
            aliases = self._aliases()
            unsettled = [
                found
                for found in self.list_versions()
                if aliases.get(CANDIDATE, 0) < found.version <= self.resolve(version)
            ]
            return [move for found in unsettled for move in self._succeed(found)]

    def promote(self, version: str | int, *, by: str, because: str) -> dict[str, Any] | None:
        """Make a version champion by a person's word; None when it is already.

        Raises:
            InvalidInput: without a name or a reason. NotFound: there is no such version.
        """
        if not by.strip() or not because.strip():
            raise InvalidInput("a promotion needs a name and a reason: --by NAME --because TEXT")
        with self._writing():
            found = self.show(version)
            if CHAMPION in found.aliases:
                return None
            return self._move(CHAMPION, found, by=by, because=because)

    def list_versions(self) -> list[RegisteredVersion]:
        """All versions, oldest first; none when nothing was ever registered."""
        if self._database is not None and not self._database.exists():
            return []
        aliases = self._aliases()
        with self._clear_errors():
            found = self._client.search_model_versions(f"name='{self.model_name}'")
        return sorted((_described(version, aliases) for version in found), key=lambda known: known.version)

    def show(self, name: str | int) -> RegisteredVersion:
        """One version by its number or alias. Raises NotFound listing what there is."""
        known = self.list_versions()
        for version in known:
            if str(name).removeprefix("v") == str(version.version) or name in version.aliases:
                return version
        there_is = [text for version in known for text in (str(version.version), *version.aliases)]
        raise NotFound(
            f"there is no model version or alias {str(name)!r}: "
            + (f"there is {', '.join(there_is)}" if there_is else "nothing has been registered yet: run petpark build")
        )

    def resolve(self, name: str | int) -> int:
        """The number that an alias (`champion`), `3` or `v3` stands for. Raises NotFound listing what there is."""
        return self.show(name).version

    def list_files(self, name: str | int) -> dict[str, str]:
        """sha256 by name of every file of a version, SHA256SUMS included; the list itself is verified."""
        found = self.show(name)
        sums = self._read(found, contents.SUMS, found.package)
        return {**contents.read_sums(sums, f"{contents.SUMS} of version {found.version}"), contents.SUMS: found.package}

    def download(self, name: str | int, to: Path, file: str | None = None) -> list[Path]:
        """Copy a version, or one file of it, out of the registry; every sum is verified, nothing appears by halves.

        Args:
            name: a number or an alias.
            to: a folder: empty or not there for the whole package, any folder for one file.
            file: its name; None for the whole package.

        Raises:
            NotFound: no such version or file. Conflict: something else is there already.
            CorruptData: a file was changed in the registry; the message names it.
        """
        found, sums = self.show(name), self.list_files(name)
        with files.named_disk_errors(to):
            paths = self._copy_all(found, sums, to) if file is None else [self._copy_one(found, sums, to, file)]
        self._record_event("model_downloaded", {**_subject(found, self.model_name), "files": sorted(_names(paths))})
        return paths

    def fetch(self, name: str | int, cache: Path) -> Path:
        """The folder of a version's package in a cache of this machine, copied there once, for the predictor.

        The predictor verifies the files; here the folder's list of sums is compared with the registry's. No event is
        recorded: the package does not leave the platform.
        """
        found = self.show(name)
        folder = cache / found.package
        if not folder.exists():
            with files.named_disk_errors(folder):
                self._copy_all(found, self.list_files(name), folder)
        if files.sha256_file(folder / contents.SUMS) != found.package:
            raise CorruptData(f"{contents.SUMS} in {folder} was changed: delete that folder, it is only a copy")
        return folder

    # ---- registering

    def _of_package(self, package: str) -> "ModelVersion | None":
        with self._clear_errors():
            known = self._client.search_model_versions(f"name='{self.model_name}'")
        return min((found for found in known if found.tags["package"] == package), key=_number, default=None)

    def _create(self, package_folder: Path, package: str, tags: Mapping[str, str]) -> "ModelVersion":
        """Files first, then the version with all its tags in one transaction: a version is never without either."""
        identity = files.read_json(package_folder / contents.IDENTITY)
        plain = ("dataset_version", "attempt", "recipe", "seed", "code_version", "accuracy")
        known = {name: str(identity[name]) for name in plain}
        with self._clear_errors(), files.named_disk_errors(self.folder):
            run = self._run_of(package)
            self._client.log_artifacts(run, str(package_folder), _FOLDER)
            self._client.log_metric(run, "accuracy", identity["accuracy"])
            self._client.set_terminated(run)
            return self._client.create_model_version(
                self.model_name,
                f"{self._artifact_root}/{run}/artifacts/{_FOLDER}",
                run,
                tags={**known, **identity["parents"], **tags, "package": package},
            )

    def _run_of(self, package: str) -> str:
        """The MLflow run that carries a package's files; one that a crash left behind is used again."""
        experiment = self._client.get_experiment_by_name(self.model_name)
        number = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(self.model_name, artifact_location=self._artifact_root)
        )
        left = self._client.search_runs([number], f"tags.package = '{package}'", max_results=1)
        run = left[0] if left else self._client.create_run(number, tags={"package": package})
        return str(run.info.run_id)

    def _announce(self, version: "ModelVersion", package: str) -> None:
        """Record the registration, and tag the version with the ledger's head: a cut tail would show."""
        subject = {"model": self.model_name, "version": int(version.version), "package": package}
        parents = {name: version.tags[name] for name in ("dataset_version", "attempt", "accuracy")}
        event = self._record_event("model_registered", {**subject, **parents})
        with self._clear_errors():
            self._client.set_model_version_tag(self.model_name, str(version.version), "ledger_event", event)

