"""A model's records as they lie in the store, and how a person names a model. Small JSON files and the ledger only.

Records are taken here as they were written, not as today's dataclasses: an audit must read every age of them.
Not here: what is asked of them (models.py, photos.py, ...), or whether they are whole (proof.py).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from petpark_assets.domain.errors import CorruptData, InvalidInput, NotFound
from petpark_assets.domain.files import Store, digest, folder_key
from petpark_assets.domain.home import Home
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.records import (
    EvaluationReport,
    FeatureScaling,
    GateOverride,
    HyperparameterSearch,
    OnnxPackage,
    RawImages,
    RegisteredModel,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)  # fmt: skip

OF_VERSION = tuple(kind.asset for kind in (RawImages, TrainSplit, TestSplit))
OF_ATTEMPT = tuple(
    kind.asset
    for kind in (FeatureScaling, HyperparameterSearch, TrainedCnn, EvaluationReport, OnnxPackage, RegisteredModel)
)
FLOW = (*OF_VERSION, *OF_ATTEMPT)
"""The assets that have records, in the order of the flow."""
RECORDED = (*FLOW, GateOverride.asset)
"""And the word of a person that few models have."""

MIN_DIGITS = 8
"""Of a digest or an attempt, to name a model by."""
_DIGITS = re.compile(rf"[0-9a-f]{{{MIN_DIGITS},64}}")
_ATTEMPT = re.compile(r"[0-9a-f]{16}\.json")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A record as it was written."""

    asset: str
    key: str
    """Where it lies in the store."""
    digest: str
    """As it was noted; `is_whole` says whether it still holds."""
    content: Mapping[str, Any]
    circumstances: Mapping[str, Any]

    @cached_property
    def is_whole(self) -> bool:
        """Whether the content has its digest."""
        return digest(self.content) == self.digest

    @property
    def parents(self) -> dict[str, str]:
        """Digests of parent records by asset."""
        return {name: self.content[name] for name in RECORDED if name in self.content}


@dataclass(frozen=True, kw_only=True)
class Trail:
    """All records behind one model, as far as it came: by asset, in the order of the flow."""

    dataset_version: str
    attempt: str
    documents: Mapping[str, Document]

    def content(self, asset: str) -> Mapping[str, Any]:
        """Of a record; empty where the model did not come that far."""
        return self.documents[asset].content if asset in self.documents else {}

    @cached_property
    def model_version(self) -> int | None:
        """The registered version's number; None when it is not registered."""
        found = self.content("registered_model").get("model_version")
        return None if found is None else int(found)

    @property
    def package(self) -> str | None:
        """The package's digest: sha256 of its SHA256SUMS; None when there is none."""
        found = self.content("onnx_package").get("files", {}).get("SHA256SUMS")
        return None if found is None else str(found)

    def files(self) -> Iterator[tuple[str, str, str]]:
        """Asset, name and sha256 of every file that the records name."""
        if "raw_images" in self.documents:
            yield "raw_images", "manifest.parquet", self.content("raw_images")["manifest"]
        if "trained_cnn" in self.documents:
            yield "trained_cnn", "weights.safetensors", self.content("trained_cnn")["weights"]
        for asset in ("evaluation_report", "onnx_package"):
            for name, sha256 in self.content(asset).get("files", {}).items():
                yield asset, name, sha256

    def digests(self) -> set[str]:
        """Every digest that a person may name this model by: of its own records and files, not of its data's."""
        own = {found.digest for asset, found in self.documents.items() if asset not in OF_VERSION}
        return own | {sha256 for asset, _, sha256 in self.files() if asset in OF_ATTEMPT}


def file_keys(asset: str, dataset_version: str, attempt: str, name: str, sha256: str) -> tuple[str, ...]:
    """Where a file of a record may lie in the store: names have held digests since files are named by content."""
    if asset == "raw_images":
        return (f"{folder_key(asset, dataset_version)}/{name}",)
    folder, start = folder_key(asset, dataset_version, attempt), sha256[:12]
    if asset == "trained_cnn":
        return (f"{folder}/weights-{start}.safetensors",)
    return (f"{folder}/{start}-{name}", f"{folder}/{name}") if asset == "evaluation_report" else (f"{folder}/{name}",)


def read_document(store: Store, asset: str, dataset_version: str, attempt: str | None = None) -> Document:
    """One record. Raises NotFound, CorruptData when it is no record any more."""
    key = f"{folder_key(asset, dataset_version, attempt)}.json"
    try:
        found = json.loads(store.read(key))
        return Document(
            asset=asset,
            key=key,
            digest=str(found["digest"]),
            content=dict(found["content"]),
            circumstances=dict(found["circumstances"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"{key} in {store.uri} is no record any more: put it back from a backup") from error


def read_trail(store: Store, dataset_version: str, attempt: str) -> Trail:
    """The records of an attempt, as far as there are any."""
    names = [*((asset, None) for asset in OF_VERSION), *((asset, attempt) for asset in RECORDED[len(OF_VERSION) :])]
    documents = {
        asset: read_document(store, asset, dataset_version, name)
        for asset, name in names
        if store.exists(f"{folder_key(asset, dataset_version, name)}.json")
    }
    return Trail(dataset_version=dataset_version, attempt=attempt, documents=documents)


def list_attempts(store: Store, *assets: str) -> list[tuple[str, str]]:
    """Dataset version and attempt of every record of some assets (of any, when none is named), oldest version first."""
    found = set()
    for asset in assets or OF_ATTEMPT:
        for key in store.list_keys(asset):
            parts = key.split("/")
            if len(parts) == 3 and _ATTEMPT.fullmatch(parts[2]):
                found.add((parts[1], parts[2].removesuffix(".json")))
    return sorted(found, key=lambda pair: (int(pair[0][1:]), pair[1]))


def registered(events: Iterable[Event]) -> dict[int, Mapping[str, Any]]:
    """Dataset version, attempt and package of each registered version, by number, from the ledger."""
    return {event.subject["version"]: event.subject for event in events if event.event == "model_registered"}


def aliases(events: Iterable[Event]) -> dict[str, Event]:
    """The last move of each alias, from the ledger: what it names now."""
    return {event.subject["alias"]: event for event in events if event.event == "alias_moved"}


def aliases_of(events: Iterable[Event], model_version: int | None) -> list[str]:
    """The aliases that name a version now."""
    return sorted(alias for alias, move in aliases(events).items() if move.subject["version"] == model_version)


def find_model(home: Home, name: str) -> Trail:
    """A model by its version (7, v7), an alias, its attempt, or a digest of one of its records or files.

    Attempts and digests may be shortened to 8 digits. A model that was rejected has no version: name its attempt.
    Raises NotFound listing what there is, InvalidInput when several are meant.
    """
    events = list(home.ledger.events())
    known, moves = registered(events), aliases(events)
    number = name.removeprefix("v")
    if name in moves:
        number = str(moves[name].subject["version"])
    versions_by_name = {str(version): subject for version, subject in known.items()}
    if number.lstrip("0") in versions_by_name:
        subject = versions_by_name[number.lstrip("0")]
        return read_trail(home.store, subject["dataset_version"], subject["attempt"])
    if _DIGITS.fullmatch(name.lower()):
        return _find_by_digits(home.store, name.lower())
    versions = ", ".join(map(str, known)) or "none"
    raise NotFound(
        f"there is no model {name!r}: registered versions are {versions}, aliases {', '.join(moves) or 'none'}; a "
        f"rejected one is named by {MIN_DIGITS} or more digits of its attempt, as petpark audit rejected lists it"
    )


def _find_by_digits(store: Store, digits: str) -> Trail:
    attempts = list_attempts(store)
    found = [pair for pair in attempts if pair[1].startswith(digits)]
    if not found:
        trails = (read_trail(store, *pair) for pair in attempts)
        found = [
            (trail.dataset_version, trail.attempt)
            for trail in trails
            if any(known.startswith(digits) for known in trail.digests())
        ]
    if len(found) > 1:
        listed = " or ".join(f"{attempt} ({version})" for version, attempt in found)
        raise InvalidInput(f"{digits} is of {len(found)} models: name one by its attempt, {listed}")
    if not found:
        raise NotFound(f"no attempt, record or file of a model begins with {digits}")
    return read_trail(store, *found[0])
