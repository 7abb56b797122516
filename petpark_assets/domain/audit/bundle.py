"""All that an auditor needs of one model, as one zip that can be verified anywhere with a bare Python.

    verify.py                 verifies all of the below (verifier.py)
    bundle.json               which model; the ledger's head; the digest of every record
    audit.html                the page to read
    records/                  every record of the model, as it lies in the store
    report/                   the evaluation report with the predictions
    package/                  SHA256SUMS and package.json; the model's own files are named there, not copied
    manifests/, croissant.json    the dataset version
    ledger.jsonl              the ledger from the first event about the model or its data to the head
    bom.cdx.json              CycloneDX bill of materials
    signature/                of the package by OpenSSF model-signing, and the public key; only where there is a package
    SHA256SUMS                of all the others

The same home gives the same bytes: no clock, no compression, and the signature, which has a random part, is kept in the
cache; where the cache was deleted, only it and its sum differ. No photo is in a bundle; keys and sha256s of photos are,
and so is whatever else the ledger says between its first and its last event. The package is signed, not the bundle.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from petpark_assets.domain.audit import bom, models, pages, signature, trail, verifier
from petpark_assets.domain.errors import Conflict, CorruptData, NotFound
from petpark_assets.domain.files import canonical_json, get_verified, named_disk_errors, sha256, write_new
from petpark_assets.domain.home import Home
from petpark_assets.domain.ledger import START, Event
from petpark_assets.domain.package.contents import write_sums

FORMAT = 2
_DATE = (1980, 1, 1, 0, 0, 0)
"""The first that a zip can say."""


def write_bundle(home: Home, name: str, to: Path, *, key_file: Path | None = None) -> dict[str, Any]:
    """Write a model's bundle; the package is signed with the private key of a file, or with the home's own.

    Returns: file, sha256, size_bytes, num_files, ledger_head: of the newest event in it; public_key: sha256 of the key
        that the package is signed by, None where nothing was packaged; next: what to do with it.

    Raises NotFound, CorruptData when something of it was changed, Conflict when `to` exists, InvalidInput for a key
    that cannot sign.
    """
    if to.exists():
        raise Conflict(f"{to} exists already: choose another name")
    files = build_files(home, trail.find_model(home, name), key_file)
    data = _zip(files)
    with named_disk_errors(to):
        if not write_new(to, data):
            raise Conflict(f"{to} exists already: choose another name")
    return {
        "file": str(to),
        "sha256": sha256(data),
        "size_bytes": len(data),
        "num_files": len(files),
        "ledger_head": json.loads(files["bundle.json"])["ledger"]["head"],
        "public_key": _public_key(files),
        "next": f"unzip it anywhere and run: python verify.py; or: python verify.py {to.name}",
    }


def build_files(home: Home, found: trail.Trail, key_file: Path | None = None) -> dict[str, bytes]:
    """The bundle's files by name, SHA256SUMS last. Raises NotFound, CorruptData, InvalidInput."""
    if "raw_images" not in found.documents:
        raise NotFound(
            f"attempt {found.attempt} has no record of {found.dataset_version}: petpark audit verify says more"
        )
    events = list(home.ledger.events())
    part = _slice(events, found)
    document = models.describe(found, events)
    signed = signature.sign_package(home, found, key_file)
    files = {
        **signed,
        "verify.py": Path(verifier.__file__).read_bytes(),
        "bundle.json": canonical_json({**_identity(found, part), "public_key": _public_key(signed)}),
        "audit.html": pages.draw_model(found, document),
        "bom.cdx.json": canonical_json(bom.bill(found, document)),
        "ledger.jsonl": b"".join(canonical_json(event) + b"\n" for event in part),
        **{f"records/{asset}.json": home.store.read(known.key) for asset, known in found.documents.items()},
        **_stored(home, found),
    }
    problems = verifier.verify({**files, "SHA256SUMS": write_sums(files)})
    if problems:
        name, detail = problems[0]
        raise CorruptData(f"no bundle was written, since {name} is not whole: {detail}; petpark audit verify says more")
    return {**files, "SHA256SUMS": write_sums(files)}


def _public_key(files: Mapping[str, bytes]) -> str | None:
    found = files.get(verifier.PUBLIC_KEY)
    return None if found is None else sha256(found)


def _slice(events: list[Event], found: trail.Trail) -> list[Event]:
    """From the first event about the model or its data to the head; all of them where none is."""
    first = next((event.number for event in events if models.is_about(event, found)), 1)
    return events[first - 1 :]


def _identity(found: trail.Trail, part: list[Event]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model_version": found.model_version,
        "dataset_version": found.dataset_version,
        "attempt": found.attempt,
        "package": found.package,
        "records": {asset: known.digest for asset, known in found.documents.items()},
        "ledger": {
            "first": part[0].number if part else 1,
            "previous": part[0].previous if part else START,
            "last": part[-1].number if part else 0,
            "head": part[-1].digest if part else START,
        },
    }


def _stored(home: Home, found: trail.Trail) -> dict[str, bytes]:
    """The files that records name, each verified, but for those that only a model's user needs."""
    folders = {"evaluation_report": "report", "onnx_package": "package"}
    stored = {}
    for asset, name, expected in found.files():
        keys = trail.file_keys(asset, found.dataset_version, found.attempt, name, expected)
        key = next((key for key in keys if home.store.exists(key)), keys[0])
        if asset == "raw_images":
            stored[f"manifests/{found.dataset_version}.parquet"] = get_verified(home.store, key, expected)
        elif asset == "evaluation_report" or name in {"SHA256SUMS", "package.json"}:
            stored[f"{folders[asset]}/{name}"] = get_verified(home.store, key, expected)
    croissant = f"raw_images/{found.dataset_version}/croissant.json"
    return {**stored, "croissant.json": home.store.read(croissant)} if home.store.exists(croissant) else stored


def _zip(files: dict[str, bytes]) -> bytes:
    """Stored, not deflated: another zlib would give other bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()
