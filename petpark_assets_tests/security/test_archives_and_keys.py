"""Claims that no name leads out of its folder: in bundles, packages, downloads, and keys of stores and lakes."""

import copy
import zipfile

import pytest

from petpark_assets.domain.audit import verifier
from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.package import contents
from petpark_assets.domain.s3.access import S3Access, odd_key, parse_place
from petpark_assets.domain.s3.store import S3Store

EVIL = ["../evil", "/tmp/petpark-evil", "a/../../evil", "a\0b"]  # noqa: S108 - never made


@pytest.mark.parametrize("name", EVIL[:3])
def test_a_bundle_that_names_a_file_elsewhere_writes_nothing_there(name, tmp_path, capsys):
    """The verifier reads a zip and unpacks nothing."""
    folder = tmp_path / "inner"
    folder.mkdir()
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        archive.writestr(name, b"evil")
    assert verifier.main([str(folder / "bundle.zip")]) == 1
    assert "refused" in capsys.readouterr().out
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "bundle.zip"]


def test_a_bundle_that_would_unpack_to_more_is_refused_unread(tmp_path, capsys):
    """A megabyte can be a thousand when unpacked; ours are not packed."""
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("records/raw_images.json", bytes(50_000_000))
    assert verifier.main([str(tmp_path / "bundle.zip")]) == 1
    assert "bundle.zip: its files come to more bytes than it has: they are packed" in capsys.readouterr().out


def test_a_bundle_whose_files_lie_over_each_other_is_refused_unread(tmp_path, capsys):
    """One megabyte, named three hundred times, is three hundred: some Pythons read that without a word."""
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("records/0.json", bytes(1_000_000))
        first = archive.filelist[0]
        for number in range(1, 300):
            again = copy.copy(first)
            again.filename = f"records/{number}.json"
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert len(archive.infolist()) == 300
    assert verifier.main([str(tmp_path / "bundle.zip")]) == 1
    assert "lie over each other" in capsys.readouterr().out


def test_a_packed_file_of_a_bundle_is_refused(tmp_path, capsys):
    """Also where the bundle has bytes enough beside it."""
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("records/raw_images.json", bytes(100), zipfile.ZIP_DEFLATED)
        archive.writestr("records/train_split.json", bytes(1000))
    assert verifier.main([str(tmp_path / "bundle.zip")]) == 1
    assert "records/raw_images.json: it cannot be read: it is packed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["..", "../model.onnx", "/etc/passwd", ".hidden", "a\0b", ""])
def test_a_package_has_no_file_outside_of_it(name):
    """A download writes what the list of sums names, where it names it."""
    with pytest.raises(CorruptData, match="not a list of sums"):
        contents.read_sums(f"{'0' * 64}  {name}\n".encode(), "SHA256SUMS")


@pytest.mark.parametrize("key", EVIL)
def test_a_key_of_the_store_stays_in_its_folder(key, tmp_path):
    """Keys come from records, which may be a stranger's."""
    store = LocalStore(tmp_path)
    for use in (store.read, store.exists, store.delete, lambda key: store.write_new(key, b"")):
        with pytest.raises(InvalidInput, match="not a key"):
            use(key)


@pytest.mark.parametrize("key", EVIL)
def test_a_key_of_a_store_in_a_bucket_stays_below_its_prefix_and_its_cache(key, tmp_path):
    """Refused before any request: this access has no server."""
    store = S3Store("s3://bucket/store", S3Access(access_key_id="a", secret_access_key="b"), tmp_path)
    for use in (store.read, store.exists, store.delete, store.local_path, lambda key: store.write_new(key, b"")):
        with pytest.raises(InvalidInput, match="not a key"):
            use(key)


@pytest.mark.parametrize("key", [*EVIL, "cat//1.jpg", "./cat/1.jpg", "cat/\n.jpg"])
def test_a_photo_in_a_bucket_whose_key_is_no_path_is_set_aside(key):
    """S3 takes any key; what would be another file's path as one is named, and not read."""
    assert odd_key(key) is not None
    if not key.startswith("/"):
        with pytest.raises(InvalidInput):
            parse_place(f"s3://bucket/{key}", "lake")
