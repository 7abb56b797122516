"""Claims about ownership: one store, one lake."""

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import Conflict, CorruptData
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
