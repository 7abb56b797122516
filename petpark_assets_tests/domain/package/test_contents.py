"""A package leads to everything it was made from, holds no photo, and is sealed."""

import dataclasses
import json
import subprocess

import pyarrow.parquet as pq
import pytest

from petpark_assets.domain.errors import CorruptData, ModelRejected, NotFound
from petpark_assets.domain.files import digest, sha256
from petpark_assets.domain.package.contents import SUMS, build_files, find_variants, verify_folder
from petpark_assets_tests.domain.package import toys


@pytest.fixture
def folder(tmp_path):
    """A package as it is stored."""
    return toys.write_package(tmp_path / "package", toys.package_files())


def test_the_same_work_gives_the_same_bytes():
    """The package's digest is its identity in the registry: a clock or a host in it would make twins."""
    assert toys.package_files() == toys.package_files()
    assert toys.package_files(seed=1)[SUMS] != toys.package_files()[SUMS]


def test_the_sums_are_what_sha256sum_checks(folder):
    """Nobody needs our code to check a package."""
    done = subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=folder, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == sorted(
        f"{path.name}: OK" for path in folder.iterdir() if path.name != SUMS
    )


def test_the_identity_names_every_parent(folder):
    """From the folder alone one finds the report, the weights, the splits and the photos' manifest."""
    identity = json.loads((folder / "package.json").read_bytes())
    lineage = toys.lineage()
    assert identity["parents"] == lineage.digests()
    assert set(identity["parents"]) == {
        "raw_images", "train_split", "test_split", "feature_scaling", "hyperparameter_search", "trained_cnn",
        "evaluation_report",
    }  # fmt: skip
    assert (identity["dataset_version"], identity["attempt"], identity["recipe"]) == ("v0001", toys.ATTEMPT, "demo")


def test_the_data_manifest_lists_each_photo_of_both_sides_and_nothing_else(folder):
    """One must be able to ask whether the model saw a photo; the photo itself must be able to be forgotten."""
    table = pq.read_table(folder / "data_manifest.parquet")
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("a" * 64, "dog", "train"), ("b" * 64, "dog", "test"), ("c" * 64, "cat", "test"), ("d" * 64, "cat", "train"),
    ]  # fmt: skip


def test_the_order_of_the_manifest_changes_nothing():
    """Rows come from a listing; a package must not depend on it."""
    arguments = {
        "onnx_model": b"w", "preprocessing": toys.PREPROCESSING, "lineage": toys.lineage(),
        "report_files": toys.REPORT_FILES, "parity": {},
    }  # fmt: skip
    table = toys.manifest()
    assert build_files(manifest=table, **arguments) == build_files(manifest=table.take([4, 3, 2, 1, 0]), **arguments)


def test_the_threshold_of_unknown_is_that_of_the_trained_network():
    """It was chosen on the validation part; a service must find it beside the labels."""
    before = toys.lineage()
    model = dataclasses.replace(before.trained_cnn, unknown_below=0.8)
    report = dataclasses.replace(before.evaluation_report, trained_cnn=digest(model))
    lineage = dataclasses.replace(before, trained_cnn=model, evaluation_report=report)
    files = build_files(
        onnx_model=b"w", preprocessing=toys.PREPROCESSING, lineage=lineage, manifest=toys.manifest(),
        report_files=toys.REPORT_FILES, parity={},
    )  # fmt: skip
    assert json.loads(files["labels.json"])["unknown_below"] == 0.8
    assert json.loads(toys.package_files()["labels.json"])["unknown_below"] is None


def test_the_int8_model_is_in_the_package_only_where_there_is_one(tmp_path):
    """What lost too much is left out; what is there is sealed like everything else."""
    assert "model.int8.onnx" not in toys.package_files()
    folder = toys.write_package(tmp_path / "both", toys.package_files(int8_model=b"rounded"))
    assert find_variants(folder) == ["float32", "int8"]
    (folder / "model.int8.onnx").write_bytes(b"another")
    with pytest.raises(CorruptData, match=r"model\.int8\.onnx"):
        verify_folder(folder)


def test_a_rejected_model_is_never_packaged():
    """The verdict is read again here: a gate in the orchestration can be passed by."""
    with pytest.raises(ModelRejected, match=r"accuracy 0\.5 is below 0\.9"):
        toys.lineage(is_accepted=False)


@pytest.mark.parametrize(
    ("child", "parent"),
    [("trained_cnn", "train_split"), ("evaluation_report", "trained_cnn"), ("test_split", "raw_images")],
)
def test_a_record_that_belongs_to_another_parent_is_refused(child, parent):
    """A report of one model beside the weights of another would be a lie that no sum shows."""
    found = toys.lineage()
    foreign = dataclasses.replace(getattr(found, child), **{parent: "f" * 64})
    with pytest.raises(CorruptData, match=rf"{child} was made from {parent} ffff"):
        dataclasses.replace(found, **{child: foreign})


def test_a_report_changed_after_the_verdict_is_not_packaged():
    """The page that people read must be the one that the verdict is bound to."""
    with pytest.raises(CorruptData, match=r"report\.html"):
        build_files(
            onnx_model=b"w", preprocessing=toys.PREPROCESSING, lineage=toys.lineage(), manifest=toys.manifest(),
            report_files={**toys.REPORT_FILES, "report.html": b"<p>100 of 100</p>"}, parity={},
        )  # fmt: skip


def test_a_whole_package_has_the_digest_of_its_sums(folder):
    """One number stands for all files."""
    assert verify_folder(folder) == sha256((folder / SUMS).read_bytes())


@pytest.mark.parametrize("name", sorted(toys.package_files().keys() - {SUMS}))
def test_one_flipped_byte_is_named(name, folder):
    """Whoever must mend it needs to know which file."""
    data = bytearray((folder / name).read_bytes())
    data[0] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(CorruptData, match=rf"{name} in .* was changed"):
        verify_folder(folder)


def test_a_missing_and_an_added_file_are_named(folder):
    """A package is exactly its files: nothing rides along."""
    (folder / "extra.py").write_text("import os")
    with pytest.raises(CorruptData, match=r"extra\.py in .* is not part of the package"):
        verify_folder(folder)
    (folder / "extra.py").unlink()
    (folder / "labels.json").unlink()
    with pytest.raises(CorruptData, match=r"labels\.json is missing"):
        verify_folder(folder)


@pytest.mark.parametrize("sums", [b"", b"nonsense\n", b"ab  model.onnx\n", b"\xff\xfe"])
def test_what_is_no_list_of_sums_is_refused(sums, folder):
    """An emptied list would otherwise vouch for an empty package."""
    (folder / SUMS).write_bytes(sums)
    with pytest.raises(CorruptData, match=SUMS):
        verify_folder(folder)


def test_a_folder_without_a_package_is_not_found(tmp_path):
    """A wrong path is the user's slip, not a damaged package."""
    with pytest.raises(NotFound, match="holds no package"):
        verify_folder(tmp_path / "nowhere")
