"""Photos' own bytes as tests want them: one of them, or one damaged on the disk."""

from pathlib import Path

from petpark_assets.domain.lake.originals import TABLE, OriginalStore


def read_original(originals: OriginalStore, sha256: str) -> bytes:
    """One photo's bytes."""
    ((_, data),) = originals.read_all([sha256])
    return data


def damage(store_root: Path, photo: bytes) -> None:
    """Change the last byte of a photo where it lies, as a failing disk would."""
    (path,) = (path for path in (store_root / TABLE / "data").iterdir() if photo in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(photo, photo[:-1] + bytes([photo[-1] ^ 1])))
