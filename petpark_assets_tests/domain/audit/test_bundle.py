"""Claims about the portable bundle: the same bytes, verified by a bare Python, and refused once anything is changed."""

import json
import subprocess
import sys
import zipfile

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.audit import bundle, trail, verifier
from petpark_assets.domain.errors import Conflict, CorruptData
from petpark_assets.domain.package.contents import write_sums
from petpark_assets_tests.domain.audit.drawn_home import FIRST, REJECTED


@pytest.fixture(scope="module")
def contents(home):
    """The files of the first model's bundle."""
    return bundle.build_files(home, trail.find_model(home, FIRST))


def _verify(folder, *arguments):
    """As an auditor does, with Python alone: isolated, and without any installed package."""
    command = [sys.executable, "-I", "-S", str(folder / "verify.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def _unpack(folder, contents):
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def _resum(contents):
    """What a careful forger does."""
    rest = {name: data for name, data in contents.items() if name != "SHA256SUMS"}
    return {**rest, "SHA256SUMS": write_sums(rest)}


def test_a_bundle_is_whole_as_a_zip_and_as_a_folder(home, contents, tmp_path):
    """Wherever it is unpacked, and whoever does not unpack it."""
    told = bundle.write_bundle(home, "1", tmp_path / "m.zip")
    folder = _unpack(tmp_path / "unpacked", contents)
    for done in (_verify(folder), _verify(folder, tmp_path / "m.zip")):
        assert (done.returncode, done.stderr) == (0, "")
        assert f"attempt {FIRST} of v0001" in done.stdout
        assert told["ledger_head"] in done.stdout
    assert told["sha256"] == files.sha256_file(tmp_path / "m.zip")


def test_a_bundle_has_all_that_was_promised(contents):
    """Report, records, manifest, ledger, page, bill of materials, verifier."""
    assert {"verify.py", "audit.html", "ledger.jsonl", "bom.cdx.json", "manifests/v0001.parquet"} <= set(contents)
    assert {"report/report.html", "report/predictions.parquet", "package/SHA256SUMS"} <= set(contents)
    assert {f"records/{asset}.json" for asset in trail.FLOW} <= set(contents)


def test_the_same_home_gives_the_same_bytes(home, tmp_path):
    """So a bundle can be compared by its digest; and nothing is overwritten."""
    told = [bundle.write_bundle(home, "1", tmp_path / name)["sha256"] for name in ("a.zip", "b.zip")]
    assert told[0] == told[1]
    with pytest.raises(Conflict, match="exists already"):
        bundle.write_bundle(home, "1", tmp_path / "a.zip")


def test_a_rejected_model_has_a_bundle_too(home, tmp_path):
    """Why it was rejected is what some auditors come for."""
    bundle.write_bundle(home, REJECTED, tmp_path / "m.zip")
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        archive.extract("verify.py", tmp_path)
        assert "package/SHA256SUMS" not in archive.namelist()
    assert _verify(tmp_path, tmp_path / "m.zip").returncode == 0


def test_any_changed_file_is_refused_by_name(contents, tmp_path):
    """One flipped bit near the end of each, one at a time; the auditor brings a verifier, since it is one of them."""
    folder, own = _unpack(tmp_path / "unpacked", contents), tmp_path / "own"
    _unpack(own, {"verify.py": contents["verify.py"]})
    assert {verifier.SIGNATURE, verifier.PUBLIC_KEY, "verify.py"} <= set(contents)
    for name in sorted(set(contents) - {"SHA256SUMS"}):
        data = contents[name]
        (folder / name).write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if len(data) > 9 else b"")
        done = _verify(own, folder)
        assert done.returncode == 1
        assert f"refused: {name}: it was changed" in done.stdout
        (folder / name).write_bytes(data)
    assert _verify(own, folder).returncode == 0


def test_a_changed_list_of_sums_is_refused(contents, tmp_path):
    """One digit of a sum accuses the file it is of; a line that is none, the list itself."""
    folder, sums = _unpack(tmp_path, contents), contents["SHA256SUMS"]
    (folder / "SHA256SUMS").write_bytes((b"1" if sums.startswith(b"0") else b"0") + sums[1:])
    assert f"refused: {min(set(contents) - {'SHA256SUMS'})}: it was changed" in _verify(folder).stdout
    (folder / "SHA256SUMS").write_bytes(b"x" + sums)
    done = _verify(folder)
    assert done.returncode == 1
    assert "refused: SHA256SUMS: it is missing, or no list of sums" in done.stdout


def test_a_file_that_is_missing_or_added_is_refused_by_name(contents, tmp_path):
    """A sum of what is there says nothing of what is not."""
    folder = _unpack(tmp_path / "unpacked", contents)
    (folder / "records" / "test_split.json").unlink()
    (folder / "letter.txt").write_text("trust me")
    done = _verify(folder)
    assert done.returncode == 1
    assert "refused: records/test_split.json: it is missing" in done.stdout
    assert "refused: letter.txt: SHA256SUMS does not list it" in done.stdout


def test_any_flipped_byte_of_the_zip_is_refused_or_changes_nothing(home, contents, tmp_path):
    """Every 401st byte: content, names, the directory. What passes (a date, a flag) has left each file as it was."""
    bundle.write_bundle(home, "1", tmp_path / "m.zip")
    folder, whole = _unpack(tmp_path / "unpacked", contents), (tmp_path / "m.zip").read_bytes()
    assert _verify(folder, tmp_path / "m.zip").returncode == 0
    for place in range(0, len(whole), 401):
        (tmp_path / "m.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found, problems = verifier.read(tmp_path / "m.zip")
        except (zipfile.BadZipFile, OSError):
            continue
        assert problems or verifier.verify(found) or found == contents, place


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("records/evaluation_report.json", (b'"accuracy":0.75', b'"accuracy":0.95'), "does not have its digest"),
        ("report/report.html", (b"0.75", b"0.95"), "not the file that its record names"),
        ("ledger.jsonl", (b'"actor":"mia"', b'"actor":"eve"'), "was changed"),
        ("package/SHA256SUMS", (b"model.onnx", b"other.onnx"), "not the file that its record names"),
    ],
)
def test_a_forger_who_mends_the_sums_is_found(contents, tmp_path, name, change, told):
    """Each digest hangs on another: the list of sums is only the first of them."""
    assert change[0] in contents[name]
    folder = _unpack(tmp_path, _resum({**contents, name: contents[name].replace(*change, 1)}))
    done = _verify(folder)
    assert done.returncode == 1
    assert f"refused: {name}: " in done.stdout
    assert told in done.stdout


def test_a_forger_who_mends_a_records_digest_is_found(contents, tmp_path):
    """The record's children, and the ledger, name the one that was."""
    document = json.loads(contents["records/evaluation_report.json"])
    document["content"]["metrics"]["accuracy"] = 0.99
    document["digest"] = files.digest(document["content"])
    identity = json.loads(contents["bundle.json"])
    identity["records"]["evaluation_report"] = document["digest"]
    forged = {"records/evaluation_report.json": document, "bundle.json": identity}
    mended = _resum({**contents, **{name: files.canonical_json(value) for name, value in forged.items()}})
    done = _verify(_unpack(tmp_path, mended))
    assert done.returncode == 1
    assert "records/onnx_package.json: it was made from another evaluation_report" in done.stdout
    assert "records/evaluation_report.json: the ledger announced another one" in done.stdout


@pytest.mark.parametrize("spoil", [lambda lines: lines[:1] + lines[2:], lambda lines: lines[:-1]])
def test_a_dropped_or_cut_event_is_found(contents, tmp_path, spoil):
    """In the middle the chain breaks, at the end the head is another."""
    ledger = b"".join(spoil(contents["ledger.jsonl"].splitlines(keepends=True)))
    done = _verify(_unpack(tmp_path, _resum({**contents, "ledger.jsonl": ledger})))
    assert done.returncode == 1
    assert "refused: ledger.jsonl: " in done.stdout


def test_no_bundle_is_made_of_what_is_not_whole(copy, attempt_file, tmp_path):
    """An auditor must not be handed what the platform itself would refuse."""
    path = attempt_file("evaluation_report", FIRST)
    path.write_bytes(path.read_bytes().replace(b'"accuracy":0.75', b'"accuracy":0.95'))
    with pytest.raises(CorruptData, match="evaluation_report"):
        bundle.write_bundle(copy, "1", tmp_path / "m.zip")
    assert not (tmp_path / "m.zip").exists()


def test_cyclonedx_itself_accepts_the_bill_of_materials(home):
    """By its strict schema, which knows every field; a field that it does not know is refused, or this says nothing."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for attempt in (FIRST, REJECTED):
        bill = bundle.build_files(home, trail.find_model(home, attempt))["bom.cdx.json"]
        assert validator.validate_str(bill.decode()) is None
        assert validator.validate_str(json.dumps({**json.loads(bill), "models": []})) is not None


def test_the_bill_of_materials_names_model_data_and_libraries(contents):
    """CycloneDX 1.6: the fields that its schema requires, the digests of what is deployed, and the exam."""
    bill = json.loads(contents["bom.cdx.json"])
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    model = bill["metadata"]["component"]
    assert (model["type"], model["version"]) == ("machine-learning-model", "1")
    onnx = json.loads(contents["records/onnx_package.json"])["content"]["files"]["model.onnx"]
    assert [part["hashes"] for part in model["components"]] == [[{"alg": "SHA-256", "content": onnx}]]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {"type": "accuracy", "value": "0.75"} in metrics
    known = {part["bom-ref"] for part in (model, *bill["components"])}
    assert known == {"model", "dataset-v0001", "pkg:pypi/torch@2.13.0"}
    assert {ref for row in bill["dependencies"] for ref in (row["ref"], *row["dependsOn"])} == known
