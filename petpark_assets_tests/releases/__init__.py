"""Homes as releases of the past have left them: every later release must be able to read them."""

import json
import tarfile
from pathlib import Path

FIRST = "petpark-0.1.0"


def unpack(folder: Path, name: str = FIRST) -> Path:
    """The folder with the `home` of a release and its `lake`; the home knows where the lake has moved to."""
    with tarfile.open(Path(__file__).parent / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    claim = folder / name / "home/store/lake.json"
    claim.write_text(json.dumps({"lake": str(folder / name / "lake")}))
    return folder / name
