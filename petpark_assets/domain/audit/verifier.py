"""Verify an audit bundle of a pet park's model. Needs Python 3.8 or newer and nothing else.

    python verify.py BUNDLE.zip       a bundle as it came
    python verify.py                  the folder that this file was unpacked into

Checked: every file against SHA256SUMS, none missing or added; every record against its own digest, its parents' and
the files' that it names; the ledger's slice line by line, each event chained to the one before, up to the head that
bundle.json names; that the ledger announced exactly this report, package and version; that the signature names the
package's files and the public key that is here. Exit code 0: all holds; 1: refused, a line for each file that is not as
it was.

Not covered: somebody who writes the whole bundle anew, this file too. Compare the head that is printed with the ledger
it came from (petpark audit verify), or the package's digest with what is deployed. What was noted beside a record
(who, when, where) is covered by SHA256SUMS alone. Whether the signature is the key's is for OpenSSF's own tool to say,
which is told where the package is, as downloaded (pip install model-signing pyopenssl):

    python -m model_signing verify key FOLDER --signature signature/package.sig --public_key signature/public_key.pem

Take the public key from its owner, or compare its sha256 with theirs: who forges a bundle can put another into it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SUMS = "SHA256SUMS"
SIGNATURE, PUBLIC_KEY = "signature/package.sig", "signature/public_key.pem"
ANNOUNCED = {"verdict": "evaluation_report", "package_made": "onnx_package", "model_trained": "trained_cnn"}
"""By event: the record whose digest it holds."""


def main(arguments: Sequence[str]) -> int:
    """Verify what the arguments name, and say what was found."""
    try:
        where = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
        files, problems = read(where)
    except (OSError, zipfile.BadZipFile) as error:
        print(f"refused: {arguments[0] if arguments else where}: {error}")
        return 1
    problems = problems + verify(files)
    for name, detail in dict.fromkeys(problems):
        print(f"refused: {name}: {detail}")
    if problems:
        return 1
    bundle = json.loads(files["bundle.json"])
    print(f"whole: {len(files)} files, attempt {bundle['attempt']} of {bundle['dataset_version']}")
    override = read_records(files).get("gate_override", {}).get("content")
    if override:
        print(f"let through by {override['by']}: {override['because']}; the verdict was {override['verdict']}")
    print(f"package {bundle['package'] or 'none'}")
    print(f"ledger head {bundle['ledger']['head']} (event {bundle['ledger']['last']})")
    if bundle["public_key"]:
        print(f"signature by public key {bundle['public_key']}: verify.py says how OpenSSF's tool checks it")
    return 0


def read(where: Path) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """Bytes by name of a zip or a folder, and what could not be read."""
    if where.is_dir():
        paths = [path for path in where.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {path.relative_to(where).as_posix(): path.read_bytes() for path in paths}, []
    files: dict[str, bytes] = {}
    problems: list[tuple[str, str]] = []
    with zipfile.ZipFile(where) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > where.stat().st_size:
            return {}, [
                (where.name, "its files come to more bytes than it has: they are packed, or lie over each other")
            ]
        for entry in archive.infolist():
            if entry.filename in files:
                problems.append((entry.filename, "it is there twice"))
            try:
                files[entry.filename] = read_entry(archive, entry)
            except Exception as error:  # noqa: BLE001  a damaged zip fails in many ways, and each is a refusal
                files[entry.filename] = b""
                problems.append((entry.filename, f"it cannot be read: {error}"))
    return files, problems


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """One file of a zip. Bundles are stored as they are: what is packed may unpack to any size, and is no bundle's."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > entry.compress_size:
        raise ValueError("it is packed, and a bundle's files are not")
    return archive.read(entry)


def verify(files: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """What is wrong: pairs of a file's name and a sentence."""
    problems = list(check_sums(files))
    for check in (check_records, check_files, check_ledger, check_signature):
        try:
            problems += check(files)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            problems.append(
                (check.__name__.replace("check_", ""), f"something of it is missing or unreadable: {error}")
            )
    return problems


def sha256(data: bytes) -> str:
    """Lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """sha256 of canonical JSON: sorted keys, no spaces, UTF-8."""
    return sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    )


def read_sums(data: bytes) -> dict[str, str]:
    """sha256 by name."""
    found = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in data.decode("utf-8", "replace").splitlines()]
    return {match.group(2): match.group(1) for match in found if match} if all(found) else {}


def check_sums(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Each file against the list."""
    sums = read_sums(files.get(SUMS, b""))
    if not sums:
        yield SUMS, "it is missing, or no list of sums"
    for name in sorted((sums.keys() | files.keys()) - {SUMS}):
        if name not in files:
            yield name, "it is missing"
        elif name not in sums:
            yield name, f"{SUMS} does not list it"
        elif sha256(files[name]) != sums[name]:
            yield name, "it was changed"


def read_records(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Records by asset."""
    names = {name[len("records/") : -len(".json")]: name for name in files if name.startswith("records/")}
    return {asset: json.loads(files[name]) for asset, name in names.items()}


def check_records(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Each record has its digest, and its parents are the ones that are here."""
    records, named = read_records(files), json.loads(files["bundle.json"])["records"]
    if set(records) != set(named):
        yield "bundle.json", "it names other records than there are"
    for asset, record in records.items():
        name = f"records/{asset}.json"
        if digest(record["content"]) != record["digest"]:
            yield name, "its content does not have its digest"
        if named.get(asset) != record["digest"]:
            yield name, "it is not the record that bundle.json names"
        for parent, expected in record["content"].items():
            if parent in named and (parent not in records or records[parent]["digest"] != expected):
                yield name, f"it was made from another {parent} than the one that is here"


def check_files(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Each file that a record names."""
    content = {asset: record["content"] for asset, record in read_records(files).items()}
    expected = {f"manifests/{content['raw_images']['dataset_version']}.parquet": content["raw_images"]["manifest"]}
    for name, known in content.get("evaluation_report", {}).get("files", {}).items():
        expected[f"report/{name}"] = known
    packaged = content.get("onnx_package", {}).get("files", {})
    for name in ("SHA256SUMS", "package.json") if packaged else ():
        expected[f"package/{name}"] = packaged[name]
    for name, known in expected.items():
        if sha256(files.get(name, b"")) != known:
            yield name, "it is not the file that its record names"
    listed = read_sums(files.get("package/SHA256SUMS", b""))
    if packaged and {**listed, SUMS: packaged[SUMS]} != packaged:
        yield "package/SHA256SUMS", "it lists other files than the package's record"


def check_verdict(records: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A package has a verdict of yes, or the word of a person about exactly this no, which the ledger holds."""
    word = records.get("gate_override", {}).get("digest")
    if word and word not in overrides:
        yield "records/gate_override.json", "the ledger announced another one, or none"
    if "onnx_package" in records and not records["evaluation_report"]["content"]["is_accepted"] and not word:
        yield "records/onnx_package.json", "its model was rejected, and nobody let it through"


def check_ledger(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """The slice's chain, its end, and what it announces."""
    bundle = json.loads(files["bundle.json"])
    previous, number = bundle["ledger"]["previous"], bundle["ledger"]["first"]
    lines = files["ledger.jsonl"].split(b"\n")
    if lines.pop() != b"":
        yield "ledger.jsonl", "its last line has no end"
    announced: dict[str, list[dict[str, str]]] = {"gate_overridden": []}
    for line in lines:
        event = json.loads(line)
        known = event.pop("digest")
        if digest(event) != known:
            yield "ledger.jsonl", f"event {event['number']} was changed"
        if event["previous"] != previous or event["number"] != number:
            yield "ledger.jsonl", f"event {event['number']} does not follow the one before it"
        previous, number = known, event["number"] + 1
        if event["subject"].get("attempt") == bundle["attempt"]:
            announced.setdefault(event["event"], []).append(event["subject"])
    if previous != bundle["ledger"]["head"] or number != bundle["ledger"]["last"] + 1:
        yield "ledger.jsonl", "it does not end with the head that bundle.json names"
    for event, asset in ANNOUNCED.items():
        here = bundle["records"].get(asset)
        if here and event in announced and here not in [subject[asset] for subject in announced[event]]:
            yield f"records/{asset}.json", "the ledger announced another one"
    yield from check_verdict(
        read_records(files), [subject["gate_override"] for subject in announced["gate_overridden"]]
    )
    packages = [subject["package"] for subject in announced.get("model_registered", [])]
    if packages and bundle["package"] not in packages:
        yield "package/SHA256SUMS", "the ledger says that another package was registered"


def check_signature(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Whose it is said to be, and what it is of; not whether it is true, which needs more than a bare Python."""
    key = json.loads(files["bundle.json"])["public_key"]
    packaged = read_records(files).get("onnx_package", {"content": {"files": {}}})["content"]["files"]
    if not packaged:
        return
    if sha256(files.get(PUBLIC_KEY, b"")) != key:
        yield PUBLIC_KEY, "it is not the key that bundle.json names"
    signed = json.loads(files.get(SIGNATURE, b"{}"))
    if signed.get("verificationMaterial", {}).get("publicKey", {}).get("hint") != key:
        yield SIGNATURE, "it is by another key than the one that bundle.json names"
    envelope = json.loads(base64.b64decode(signed.get("dsseEnvelope", {}).get("payload", "e30=")))
    named = {found["name"]: found["digest"] for found in envelope.get("predicate", {}).get("resources", ())}
    if named != packaged:
        yield SIGNATURE, "it is of other files than the package's"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
