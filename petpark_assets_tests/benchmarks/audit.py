"""How long each of the auditor's questions takes, as a whole process with its page, on 200 versions of 100,000 photos.

    python -m petpark_assets_tests.benchmarks.audit

Drawn records: of each version 1 % of the photos are new, and one model was examined on its 20,000 test photos and
announced as registered and, once `verify` has been timed, as promoted: no registry has it. The photo of `image` was on
the test side of every version, so that all predictions are read. The index of photos, which ingestion keeps in the
cache, is there; how long it takes to make it anew is told beside, and how long `verify` takes, which is no question: it
reads every file. Six minutes, most of them to draw the home.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from petpark_assets.domain.files import sha256
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.lake import catalogue, sightings
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.domain.audit import drawn_home

RESULT = Path(__file__).parent / "results" / "audit.json"
COMMAND = "python -m petpark_assets_tests.benchmarks.audit"
NUM_VERSIONS, NUM_PHOTOS, NUM_ROUNDS, NUM_PROOFS = 200, 100_000, 5, 3
ALLOWED_SECONDS = 2.0
_STAYS = 0
"""The photo that every version has: on the test side, since 0 is divisible by 5."""


def main() -> None:
    """Draw the home, ask, and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        home = draw(Path(folder) / "home")
        started = time.perf_counter()
        sightings.read_sightings(home.store, home.cache)
        seconds_of_index = round(time.perf_counter() - started, 1)
        (Path(folder) / "photo.jpg").write_bytes(drawn_home.photo_bytes(_STAYS))
        told = questions(Path(folder) / "photo.jpg")
        proved = [ask(home, "verify") for _ in range(NUM_PROOFS)]
        for number in range(1, NUM_VERSIONS + 1):
            promote(home, number)
        asked = {name: [ask(home, *words) for _ in range(NUM_ROUNDS)] for name, words in told.items()}
    result = {
        **describe_run(COMMAND),
        "n": {"versions": NUM_VERSIONS, "photos": NUM_PHOTOS, "rounds": NUM_ROUNDS},
        "allowed_s": ALLOWED_SECONDS,
        "index_of_photos_anew_s": seconds_of_index,
        "seconds": {name: summary(values) for name, values in asked.items()},
        "verify": {"rounds": NUM_PROOFS, "seconds": summary(proved)},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


def questions(photo: Path) -> dict[str, tuple[str, ...]]:
    """The words of each; a file with the bytes of the photo that stays."""
    middle, stays = str(NUM_VERSIONS // 2), drawn_home.photo(_STAYS)
    return {
        "model": ("model", middle),
        "image by key": ("image", stays["key"]),
        "image by sha256": ("image", stays["sha256"]),
        "image by file": ("image", str(photo)),
        "dataset": ("dataset", middle),
        "rejected": ("rejected",),
        "at": ("at", "2999-01-01"),
        "diff": ("diff", "1", str(NUM_VERSIONS)),
        "index": ("index",),
    }


def ask(home: Home, *words: str) -> float:
    """Seconds of one process that answers and writes its page."""
    told = ["audit", *words, "--json", "--html", str(home.root.parent / "pages" / f"{words[0]}.html")]
    command = [sys.executable, "-m", "petpark_assets.cli", *told, "--home", str(home.root)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def summary(values: list[float]) -> dict[str, Any]:
    """Mean, deviation and the worst, seconds."""
    return {
        "mean": round(statistics.mean(values), 2),
        "deviation": round(statistics.stdev(values), 2),
        "worst": round(max(values), 2),
    }


def draw(root: Path) -> Home:
    """All versions, each with its model."""
    home = open_home(root, actor="drawn")
    numbers = list(range(NUM_PHOTOS))
    for number in range(1, NUM_VERSIONS + 1):
        version = catalogue.version_name(number)
        attempt = _attempt(version)
        drawn_home.add_version(home, version, [drawn_home.photo(known) for known in numbers])
        drawn_home.add_model(home, version, attempt, accuracy=0.9, is_accepted=False)
        home.ledger.append("model_registered", _registered(number))
        for place in range(1, NUM_PHOTOS // 100 + 1):  # the oldest go, but for the first
            numbers[(number * NUM_PHOTOS // 100 + place) % NUM_PHOTOS or 1] = NUM_PHOTOS * number + place
    return home


def promote(home: Home, number: int) -> None:
    """Tell the ledger that a model was made candidate and champion; `verify` would miss both in the registry."""
    for alias in ("champion", "candidate"):
        moved = {"alias": alias, "previous_version": number - 1 or None, "by": "drawn", "because": "drawn"}
        home.ledger.append("alias_moved", {**_registered(number), **moved})


def _registered(number: int) -> dict[str, Any]:
    version = catalogue.version_name(number)
    model = {"model": "pet-classifier", "version": number, "package": "0" * 64}
    return {**model, "dataset_version": version, "attempt": _attempt(version)}


def _attempt(version: str) -> str:
    return sha256(version.encode())[:16]


if __name__ == "__main__":
    main()
