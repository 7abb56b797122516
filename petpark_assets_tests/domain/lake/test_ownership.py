"""Claims about ownership: one store, one lake."""

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput
from petpark_assets.domain.lake import ownership
from petpark_assets.domain.lake.sources import open_lake


def test_a_store_belongs_to_one_lake(tmp_path):
    """Two lakes in one store would each look like the removal of the other."""
    store = files.LocalStore(tmp_path / "store")
    lake, other = tmp_path / "lake", tmp_path / "other"
    lake.mkdir()
    other.mkdir()
    ownership.check(store, open_lake(str(lake)))
    ownership.claim(store, open_lake(str(lake)))
    ownership.claim(store, open_lake(f"{lake}/../lake"))
    with pytest.raises(Conflict, match=r"belongs to the lake file://.*/lake, not to .*/other: choose another home"):
        ownership.claim(store, open_lake(str(other)))
    store.local_path(ownership.KEY).write_bytes(b"{")
    with pytest.raises(CorruptData, match=r"lake\.json in .* does not name a lake"):
        ownership.check(store, open_lake(str(lake)))


def test_a_home_inside_the_lake_is_refused_unless_it_is_hidden(tmp_path):
    """Each look would ingest the originals that the look before stored."""
    lake = open_lake(str(tmp_path))
    ownership.refuse_inside(str(tmp_path / ".petpark/store"), tmp_path / ".petpark", lake)
    ownership.refuse_inside(f"{tmp_path}-home/store", tmp_path.parent / "home", lake)
    for store, home in ((tmp_path / "home/store", tmp_path / "home"), ("s3://park/store", tmp_path)):
        with pytest.raises(InvalidInput, match="lies in the lake"):
            ownership.refuse_inside(str(store), home, lake)


def test_a_home_inside_the_lake_is_refused_however_it_is_spelled(tmp_path):
    """A link or .. must not lead around the check; a link within the lake is followed by each look."""
    lake = tmp_path / "lake"
    for name in ("lake/home", "lake/.hidden", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(lake)
    (lake / "inward").symlink_to(tmp_path / "outside")
    (lake / ".inward").symlink_to(tmp_path / "outside")
    for home, seen in (
        (tmp_path / "link/home", lake),
        (tmp_path / "outside/../lake/home", lake),
        (lake / "home", tmp_path / "link"),
        (lake / "inward", lake),
        (tmp_path / "link", lake),
    ):
        with pytest.raises(InvalidInput, match="lies in the lake"):
            ownership.refuse_inside(str(tmp_path / "store"), home, open_lake(str(seen)))
    for home in (tmp_path / "link/.hidden", lake / ".inward", lake / "../outside", tmp_path / "lake-home"):
        ownership.refuse_inside(f"{home}/store", home, open_lake(str(lake)))
