"""Claims about the sides' check: it can fail, and its history is that of the other versions."""

from pathlib import Path

from petpark_assets.domain import splits
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.lake import catalogue, history

MOVED = "a" * 64


def _make_version(store: LocalStore, version: str, side: str) -> None:
    row = {
        "key": "cat/1.jpg", "size_bytes": 1, "sha256": MOVED, "label": "cat", "group": MOVED,
        "split": side, "state": "accepted", "first_version": "v0001",
    }  # fmt: skip
    table = catalogue.build_table([row], num_ignored=0, previous_manifest=None)
    assert catalogue.write_manifest(store, version, table)


def test_a_photo_that_changed_sides_is_found_in_the_newest_version(tmp_path: Path):
    """Were the version's own rows its history, a photo that moved would always look as if it had never moved."""
    store = LocalStore(tmp_path)
    _make_version(store, "v0001", "train")
    _make_version(store, "v0002", "test")
    newest = catalogue.read_manifest(store, "v0002")
    assert splits.leaks(newest, history.sides(history.read_history(store, besides="v0002"))) == [MOVED]
    assert splits.leaks(newest, history.sides(history.read_history(store))) == []
