"""Looking for what is left of a photo in every file of a folder, at any place in it.

A file holds a part of some bytes if 64 of them stand there in a row. Such a window covers at least one of the blocks of
32 bytes into which the bytes are cut, so these are looked for: by their first 8 bytes at every alignment, then whole.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

BLOCK = 32


def blocks(data: bytes) -> set[bytes]:
    """The blocks of some bytes that are no repetition of one byte, which any file may hold."""
    cut = (data[start : start + BLOCK] for start in range(0, len(data) - BLOCK + 1, BLOCK))
    return {block for block in cut if len(set(block)) > 8}


def files_with(wanted: set[bytes], folders: Iterable[Path]) -> list[str]:
    """The files below some folders that hold one of the blocks, hidden and unfinished ones too."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path.as_posix() for path in paths if holds(path.read_bytes(), wanted)]


def holds(data: bytes, wanted: set[bytes]) -> bool:
    """Whether one of the blocks stands in the data, at any alignment."""
    beginnings = np.array(sorted({int.from_bytes(block[:8], "little") for block in wanted}), np.uint64)
    for shift in range(8):
        if len(data) < shift + BLOCK:
            break
        words = np.frombuffer(data, np.dtype("<u8"), count=(len(data) - shift) // 8, offset=shift)
        for place in np.flatnonzero(np.isin(words, beginnings)):
            start = shift + 8 * int(place)
            if data[start : start + BLOCK] in wanted:
                return True
    return False
