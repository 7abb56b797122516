"""Homes in which something is not as it should be, made from good ones.

Not here: what checks (verdicts.py) and verbs say of them.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from petpark_assets.domain.files import record_key
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import find_recipe
from petpark_assets.domain.records import RawImages
from petpark_assets.domain.workflow import ingestion

RECIPE = find_recipe("demo")
"""Of all runs; no pixels are stored at another resolution than its."""
COPY = "cat/smaller.png"
"""The key of a copy."""


def drawn(folder: Path) -> Home:
    """A good home: a version of twenty drawn photos, a smaller copy of the first of them and four broken files."""
    lake, home = folder / "lake", open_home(folder / "home", actor="tester")
    draw_lake(lake, num_images=20, num_broken=4)
    with Image.open(min((lake / "cat").glob("0*"))) as first:
        first.resize((150, 150)).save(lake / COPY)
    ingestion.new_dataset_version(home, str(lake), RECIPE.resolution_px)
    return home


def copied(home: Home, folder: Path) -> Home:
    """The same home once more, to be changed."""
    shutil.copytree(home.root, folder / "home")
    return open_home(folder / "home", actor="tester")


def rewrite(home: Home, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Make v0001 anew with its rows changed."""
    rows = catalogue.read_manifest(home.store, "v0001").to_pylist()
    change(rows)
    for key in (catalogue.manifest_key("v0001"), record_key(RawImages, "v0001", None)):
        home.store.delete(key)
    table = catalogue.build_table(rows, num_ignored=1, previous_manifest=None)
    assert catalogue.write_manifest(home.store, "v0001", table)
    ingestion.raw_images(home, "v0001", RECIPE.resolution_px)


def part_copies(home: Home) -> dict[str, str]:
    """Put the copy on the other side in a group of its own, as a grouping with a bug would: the keys by side."""
    keys = {}

    def change(rows: list[dict[str, Any]]) -> None:
        copy = next(row for row in rows if row["key"] == COPY)
        original = next(row for row in rows if row["group"] == copy["group"] and row["key"] != COPY)
        copy |= {"group": copy["sha256"], "split": {"train": "test", "test": "train"}[original["split"]]}
        keys.update({row["split"]: row["key"] for row in (copy, original)})

    rewrite(home, change)
    return keys
