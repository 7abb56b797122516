"""Registered models: immutable versions of one model, and the aliases that name one of them.

A version is one package, known by its digest. MLflow keeps versions, tags and files, and shows them in its UI; the
rules are ours: the same package is never registered twice, every alias move is recorded before it happens (MLflow
forgets them), and nothing leaves without its sums verified.

    candidate   the newest version
    champion    what `petpark classify` and the service answer with

The rule of succession: each new version meets the champion of that moment once, and becomes champion when there is
none, or when it is clearly better (whoever registers judges that, by the exam's comparison on the same photos). One
that a person let through the gate never does. Otherwise it waits as `candidate` for a person's `promote`, which stands
until a clearly better version is registered.

Not covered: homes that share MLflow's server and not their ledger, whose locks are of one machine each.
Not here: MLflow (mlflow_store.py), whether a model may be registered or promoted (workflow/gate.py), the ledger.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from petpark_assets.domain.errors import Conflict, CorruptData, NotFound
from petpark_assets.domain.files import alone, named_disk_errors, sha256, sha256_file, write_new
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.package import contents
from petpark_assets.domain.records import HyperparameterSearch
from petpark_assets.domain.registry.decisions import require_signed
from petpark_assets.domain.registry.mlflow_store import MlflowStore, RegisteredVersion

CANDIDATE = "candidate"
CHAMPION = "champion"
THE_RULE = "rule of succession"
"""Who moved an alias when no person did."""
_LEDGER_TAG = "ledger_event"
_NEWEST = "it is the newest version"

Judge = Callable[[RegisteredVersion, RegisteredVersion | None], tuple[bool, str]]
"""Whether a version takes the champion's place (None: there is none), and why or why not, in one line without a full
stop."""


class Registry:
    """The versions of one model. Many processes may use it at once; nothing is made before something is stored."""

    def __init__(
        self,
        folder: Path,
        model_name: str,
        *,
        record_event: Callable[[str, Mapping[str, Any]], str],
        tracking_uri: str | None = None,
        artifact_root: str | None = None,
        writing: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        """A registry on this machine (the default), or in an MLflow server or database elsewhere.

        Args:
            folder: holds, by default, the database, the packages and the lock.
            model_name: one name, many versions.
            record_event: appends to the ledger and returns the event's digest.
            tracking_uri: MLflow's server or database; None for SQLite in the folder.
            artifact_root: URI of where packages go; None for the folder, or for what the server says.
            writing: keeps all others from writing meanwhile who use the same registry; None for those of this machine.
        """
        self.model_name = model_name
        self._record_event = record_event
        self._writing = writing or partial(alone, folder.absolute() / "writing.lock")
        self._store = MlflowStore(folder, model_name, tracking_uri, artifact_root)

    # ---- versions

    def register(self, package_folder: Path, *, tags: Mapping[str, str]) -> int:
        """Make a package a version, or find the version that it is already, also after a crash half-way.

        Args:
            package_folder: checked first; its package.json gives the tags of version, attempt, recipe and parents.
            tags: what the package cannot know: the digest of its own record, the run.

        Raises:
            NotFound, CorruptData: it is not a whole package.
            TransientError: the registry did not answer, or the disk is full.
        """
        package = contents.verify_folder(package_folder)
        with self._writing():
            known = self._find_package(package)
            if known is None:
                identity = json.loads((package_folder / contents.IDENTITY).read_bytes())
                self._store.create(package_folder, package, identity["accuracy"], {**tags, **_tags(identity)})
                known = self._find_package(package)
            assert known is not None  # it was just made
            self._announce(known)
            return known.version

    def list_versions(self) -> list[RegisteredVersion]:
        """All versions, oldest first; none when nothing was ever registered."""
        return self._store.versions()

    def show(self, name: str | int) -> RegisteredVersion:
        """One version by alias (`champion`) or number (3, `3`, `v3`). Raises NotFound listing what there is."""
        known = self.list_versions()
        for found in known:
            if name in {found.version, str(found.version), f"v{found.version}", *found.aliases}:
                return found
        if not known:
            raise NotFound(f"there is no model {str(name)!r}: nothing was registered yet, run `petpark build` first")
        there_is = ", ".join(" = ".join((str(found.version), *found.aliases)) for found in known)
        raise NotFound(f"there is no model version or alias {str(name)!r}: there is {there_is}")

    def resolve(self, name: str | int) -> int:
        """The number of a version by alias or number. Raises NotFound listing what there is."""
        return self.show(name).version

    def _find_package(self, package: str) -> RegisteredVersion | None:
        return next((found for found in self.list_versions() if found.package == package), None)

    def _announce(self, found: RegisteredVersion) -> None:
        """Record a registration once, and tag the version with the ledger's head of then: a cut tail would show."""
        if _LEDGER_TAG not in found.tags:
            event = self._record_event("model_registered", self._subject(found))
            self._store.tag(found.version, _LEDGER_TAG, event)

    def _subject(self, found: RegisteredVersion) -> dict[str, Any]:
        named = {name: found.tags[name] for name in ("dataset_version", "attempt")}
        return {"model": self.model_name, "version": found.version, "package": found.package, **named}

    # ---- searches

    def log_search(self, search: HyperparameterSearch) -> None:
        """A run for each trial below one for the search, to be looked at in MLflow's UI; the same call again adds none.

        Raises TransientError when MLflow does not answer.
        """
        with self._writing():
            self._store.log_search(search)

    # ---- aliases

    def settle_aliases(self, version: int, judge: Judge) -> list[dict[str, Any]]:
        """Apply the rule of succession to each version up to this one that has not met it; returns the moves.

        `candidate` marks how far the rule was applied, so the same call again moves nothing, whatever a person has
        promoted since. Raises NotFound.
        """
        with self._writing():
            last, settled = self.resolve(version), self._store.aliases().get(CANDIDATE, 0)
            unsettled = [found for found in self.list_versions() if settled < found.version <= last]
            return [move for found in unsettled for move in self._succeed(found, judge)]

    def promote(self, name: str | int, *, by: str, because: str) -> dict[str, Any] | None:
        """Make a version champion by a person's word; returns the move, None when it is champion already.

        Raises:
            InvalidInput: without a name or a reason.
            NotFound: there is no such version.
        """
        by, because = require_signed(by, because, what="a promotion")
        with self._writing():
            found = self.show(name)
            return None if CHAMPION in found.aliases else self._move(CHAMPION, found, by=by, because=because)

    def _succeed(self, found: RegisteredVersion, judge: Judge) -> list[dict[str, Any]]:
        """Champion first: `candidate` must not say that the rule was applied before it was."""
        number = self._store.aliases().get(CHAMPION)
        if number == found.version:  # killed between its two moves: it must not be judged against itself
            return [self._move(CANDIDATE, found, by=THE_RULE, because=_NEWEST)]
        is_better, why = judge(found, self.show(number) if number else None)
        moves = [self._move(CHAMPION, found, by=THE_RULE, because=why)] if is_better else []
        newest = _NEWEST if is_better else f"{_NEWEST}, and waits for a person: {why}"
        return [*moves, self._move(CANDIDATE, found, by=THE_RULE, because=newest)]

    def _move(self, alias: str, found: RegisteredVersion, *, by: str, because: str) -> dict[str, Any]:
        """Recorded first: after a crash the ledger may hold a move twice, but never lack one."""
        move = {
            **self._subject(found),
            "alias": alias,
            "previous_version": self._store.aliases().get(alias),
            "by": by,
            "because": because,
        }
        self._record_event("alias_moved", move)
        self._store.set_alias(alias, found.version)
        return move

    # ---- files

    def list_files(self, name: str | int) -> dict[str, str]:
        """sha256 by name of all files of a version. Raises NotFound, CorruptData when the list was changed."""
        return self._sums(self.show(name))

    def download(self, name: str | int, to: Path, file: str | None = None) -> list[Path]:
        """Copy a version, or one file of it, out of the registry; every sum is verified, nothing appears by halves.

        Args:
            name: a number or an alias.
            to: for the whole package a folder that is empty or not there; for one file any folder.
            file: its name; None for the whole package.

        Returns:
            The files written.

        Raises:
            NotFound: no such version or file.
            Conflict: something else is there already.
            CorruptData: a file was changed in the registry, or is gone; the message names it.
        """
        found = self.show(name)
        paths = self._copy_package(found, to) if file is None else [self._copy_file(found, to, file)]
        self._record_event("model_downloaded", {**self._subject(found), "files": sorted(path.name for path in paths)})
        return paths

    def fetch(self, name: str | int, cache: Path) -> Path:
        """A version's package in a cache of this machine, copied there once: the folder to open a Predictor on.

        The predictor verifies every file against SHA256SUMS; here that list is compared with the registry's digest.
        No event is recorded: the package does not leave the platform. Raises NotFound, CorruptData.
        """
        found = self.show(name)
        folder = cache / found.package
        if not folder.exists():
            try:
                self._copy_package(found, folder)
            except OSError:
                if not folder.exists():  # otherwise another process put the same package there first
                    raise
        if sha256_file(folder / contents.SUMS) != found.package:
            raise CorruptData(f"{contents.SUMS} in {folder} was changed: delete that folder, it is only a copy")
        return folder

    def _sums(self, found: RegisteredVersion) -> dict[str, str]:
        listed = self._read_verified(found, contents.SUMS, found.package)
        return {
            **contents.read_sums(listed, f"{contents.SUMS} of version {found.version}"),
            contents.SUMS: found.package,
        }

    def _read_verified(self, found: RegisteredVersion, name: str, expected: str) -> bytes:
        data = self._store.read(found, name)
        if sha256(data) != expected:
            raise CorruptData(
                f"{name} of version {found.version} was changed in the registry {self._store.where}: its sha256 is "
                f"{sha256(data)[:12]}…, registered was {expected[:12]}…; restore it from a backup"
            )
        return data

    def _copy_package(self, found: RegisteredVersion, to: Path) -> list[Path]:
        """Beside its place first, then renamed: `to` is never half a package."""
        if to.exists() and not (to.is_dir() and not any(to.iterdir())):
            raise Conflict(f"{to} is there already and not empty: nothing was written, choose another folder")
        to = to.resolve()
        with named_disk_errors(to):
            to.parent.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}.", suffix=".part"))
            try:
                sums = self._sums(found)
                for name, expected in sums.items():
                    write_new(beside / name, self._read_verified(found, name, expected))
                beside.chmod(0o755)
                os.replace(beside, to)  # noqa: PTH105  Path.replace has the same words; this one is atomic for folders
            except BaseException:
                shutil.rmtree(beside)
                raise
        return [to / name for name in sorted(sums)]

    def _copy_file(self, found: RegisteredVersion, to: Path, name: str) -> Path:
        sums = self._sums(found)
        if name not in sums:
            raise NotFound(f"version {found.version} has no file {name!r}: it has {', '.join(sorted(sums))}")
        path = to.absolute() / name
        if not write_new(path, self._read_verified(found, name, sums[name])) and sha256_file(path) != sums[name]:
            raise Conflict(f"{path} is there already with other content: nothing was written, choose another folder")
        return path


def history(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Registrations, alias moves and overrides in their order, from the ledger's events, each with its subject.

    A row has number, time, actor, event, and what the subject says: `version` where it is about a registered one.
    """
    kinds = {"model_registered", "alias_moved", "gate_overridden"}
    return [
        {"number": event.number, "time": event.time, "actor": event.actor, "event": event.event, **event.subject}
        for event in events
        if event.event in kinds
    ]


def _tags(identity: Mapping[str, Any]) -> dict[str, str]:
    """What a package says of itself, as a version's tags."""
    plain = ("dataset_version", "attempt", "recipe", "seed", "code_version", "accuracy")
    let_through = ("overridden_by", "overridden_because")
    return {**{name: str(identity[name]) for name in (*plain, *let_through) if name in identity}, **identity["parents"]}
