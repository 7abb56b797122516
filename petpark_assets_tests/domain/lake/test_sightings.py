"""Claims about the index of photos over versions: it says what the manifests say, whatever changed between them."""

import random

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.lake import catalogue, sightings

LABELS = ("cat", "dog", None)


def _rows(random_choices):
    """A version: some of 30 keys, each with some bytes, label and state."""
    rows = []
    for number in range(30):
        if random_choices.random() < 0.8:
            is_accepted = random_choices.random() < 0.9
            rows.append({
                "key": f"{number:02}.jpg",
                "sha256": files.sha256(bytes([number, random_choices.random() < 0.1])) if is_accepted else None,
                "label": random_choices.choice(LABELS) if random_choices.random() < 0.1 else "cat",
                "split": "train" if is_accepted else None,
                "state": "accepted" if is_accepted else "quarantined",
                "reason": None if is_accepted else "unreadable",
                "size_bytes": 1,
            })  # fmt: skip
    return rows


def _write(store, number, rows):
    table = catalogue.build_table(rows, num_ignored=0, previous_manifest=None)
    catalogue.write_manifest(store, catalogue.version_name(number), table)


@pytest.fixture
def versions(tmp_path):
    """A store, and the rows of its six versions."""
    store, choices = files.LocalStore(tmp_path / "store"), random.Random(0)  # noqa: S311  drawn rows
    drawn = [_rows(choices) for _ in range(6)]
    for number, rows in enumerate(drawn, start=1):
        _write(store, number, rows)
    return store, drawn


def _said(table, number):
    """What the index says of one version."""
    rows = [row for row in table.to_pylist() if row["first"] <= number <= row["last"]]
    return sorted((tuple(row[name] for name in sightings.COLUMNS) for row in rows), key=lambda row: row[0])


def test_each_version_is_as_its_manifest(versions, tmp_path):
    """Keys that come, go and return, bytes and labels that change, nulls: nothing is lost, nothing is said twice."""
    store, drawn = versions
    table, names = sightings.read_sightings(store, tmp_path / "cache")
    assert names == [f"v{number:04}" for number in range(1, 7)]
    for number, rows in enumerate(drawn):
        assert _said(table, number) == [tuple(row[name] for name in sightings.COLUMNS) for row in rows]


def test_runs_are_as_long_as_they_can_be(versions, tmp_path):
    """A row for each version would be as long as all manifests together."""
    table, _ = sightings.read_sightings(versions[0], tmp_path / "cache")
    rows = table.to_pylist()
    for row in rows:
        later = {**row, "first": row["last"] + 1}
        assert not any({**other, "last": row["last"]} == later for other in rows)


def test_the_cache_is_followed_and_never_trusted_blindly(versions, tmp_path):
    """One more version is added to it; what is damaged, or another store's, is read again."""
    store, drawn = versions
    sightings.read_sightings(store, tmp_path / "cache")
    _write(store, 7, drawn[0])
    table, names = sightings.read_sightings(store, tmp_path / "cache")
    fresh, _ = sightings.read_sightings(store, tmp_path / "another")
    assert (len(names), table.to_pylist()) == (7, fresh.to_pylist())
    (tmp_path / "cache" / sightings.FILE_NAME).write_bytes(b"no table")
    assert sightings.read_sightings(store, tmp_path / "cache")[0].equals(fresh)
    other = files.LocalStore(tmp_path / "other")
    _write(other, 1, drawn[3])
    assert _said(sightings.read_sightings(other, tmp_path / "cache")[0], 0) == _said(fresh, 3)
