"""What ingestion is measured against, and ingestion itself: each in a process of its own, which prints what it took.

    python -m petpark_assets_tests.benchmarks.contenders NAME LAKE FOLDER RESOLUTION_PX

`petpark` is the whole of `petpark lake ingest` behind its command. A bare loop reads, hashes, decodes, squeezes and
writes the same originals and pixels, hundreds to a file as we do, by one library, on as many threads as there are
processors, in order of no care: no checks, no statistics, no likeness, no split, no manifest, and nothing is synced.
`imagefolder` is torchvision's ImageFolder with a DataLoader of two workers, as its documentation writes it (ToTensor):
reading, decoding and squeezing, nothing kept; `imagefolder_uint8` does without floating point. Seconds are without
imports, which are given beside them; so is the most memory the process ever had.
Not here: who is measured against whom, and how often (ingestion.py).
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Draw = Callable[[bytes], np.ndarray]
"""From a file's bytes to uint8 [R, R, 3]."""

SHARD_ROWS = 512
EPOCH_BATCH = 256
NUM_WORKERS = 2


def main() -> None:
    """Print the seconds, of the clock and of processors, the photos and the megabytes of one contender."""
    name, lake, folder, resolution_px = sys.argv[1:]
    started = time.perf_counter()
    work = CONTENDERS[name](Path(lake), Path(folder), int(resolution_px))
    ready, cpu = time.perf_counter(), time.process_time()
    answer = work()
    took = {"seconds": time.perf_counter() - ready, "cpu_s": time.process_time() - cpu, "import_s": ready - started}
    print(json.dumps({**took, "peak_mb": _peak_mb(), **answer}))  # noqa: T201


def _peak_mb() -> float:
    """The most memory this process had; getrusage would count what whoever started it had then."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def petpark(lake: Path, folder: Path, resolution_px: int) -> Callable[[], dict[str, Any]]:
    """The next version of a lake, with all that it needs imported before: torch too, where it has so much to read."""
    import lance.fragment

    from petpark_assets.domain.lake import squeezing

    assert lance.fragment
    if not folder.exists() and sum(len(list(side.iterdir())) for side in lake.iterdir()) >= squeezing.PAYS_FROM:
        import torch

        assert torch
    return petpark_again(lake, folder, resolution_px)


def petpark_again(lake: Path, folder: Path, resolution_px: int) -> Callable[[], dict[str, Any]]:
    """The next version of a lake, with its imports in the time."""
    from petpark_assets.domain.home import open_home
    from petpark_assets.domain.workflow.ingestion import new_dataset_version

    home = open_home(folder, actor="benchmark")

    def work() -> dict[str, Any]:
        result = new_dataset_version(home, str(lake), resolution_px)
        return {
            "photos": result.raw_images.images["seen"],
            "read": result.num_read,
            "dataset_version": result.dataset_version,
            "is_new": result.is_new,
        }

    return work


def petpark_epoch(lake: Path, folder: Path, resolution_px: int) -> Callable[[], dict[str, Any]]:
    """The train side in random order, as training reads it: from this machine's copy, which is made once a node."""
    from petpark_assets.domain.home import open_home
    from petpark_assets.domain.workflow.ingestion import find_version, new_dataset_version, raw_images
    from petpark_assets.domain.workflow.sides import open_side

    home = open_home(folder, actor="benchmark")
    version = find_version(home, new_dataset_version(home, str(lake), resolution_px).dataset_version)
    raw_images(home, version, resolution_px)
    started = time.perf_counter()
    side = open_side(home, version, "train", resolution_px)
    copy_s = time.perf_counter() - started

    def work() -> dict[str, Any]:
        order = np.random.default_rng(0).permutation(len(side.images))
        total = 0
        for start in range(0, len(order), EPOCH_BATCH):
            batch = side.images[order[start : start + EPOCH_BATCH]]
            total += len(batch)
        return {"photos": total, "copy_s": copy_s}

    return work


def image_folder(conversion: str) -> Callable[[Path, Path, int], Callable[[], dict[str, Any]]]:
    """One epoch by torchvision's own means, with one of its conversions to tensors."""

    def prepare(lake: Path, _folder: Path, resolution_px: int) -> Callable[[], dict[str, Any]]:
        from torch.utils.data import DataLoader
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        steps = [transforms.Resize((resolution_px, resolution_px)), getattr(transforms, conversion)()]
        dataset = ImageFolder(str(lake), transforms.Compose(steps))

        def work() -> dict[str, Any]:
            loader = DataLoader(dataset, batch_size=EPOCH_BATCH, shuffle=True, num_workers=NUM_WORKERS)
            return {"photos": sum(len(images) for images, _ in loader)}

        return work

    return prepare


def bare_loop(make_draw: Callable[[int], Draw]) -> Callable[[Path, Path, int], Callable[[], dict[str, Any]]]:
    """Read, hash, decode, squeeze, write: nothing else."""

    def prepare(lake: Path, folder: Path, resolution_px: int) -> Callable[[], dict[str, Any]]:
        draw = make_draw(resolution_px)
        folder.mkdir(parents=True)

        def work_on(paths: Sequence[str]) -> int:
            pixels, photos = np.empty((len(paths), resolution_px, resolution_px, 3), np.uint8), {}
            for square, path in zip(pixels, paths, strict=True):
                data = _read(path)
                square[:] = draw(data)
                photos[hashlib.sha256(data).hexdigest()] = data
            name = f"{folder}/{Path(paths[0]).name}"
            _write(f"{name}.originals", b"".join([*map(str.encode, photos), *photos.values()]))
            _write(f"{name}.pixels", pixels.data.cast("B"))
            return len(paths)

        def work() -> dict[str, Any]:
            paths = sorted(entry.path for side in os.scandir(lake) if side.is_dir() for entry in os.scandir(side.path))
            shards = [paths[start : start + SHARD_ROWS] for start in range(0, len(paths), SHARD_ROWS)]
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                return {"photos": sum(pool.map(work_on, shards))}

        return work

    return prepare


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path would be a handicap
        return file.read()


def _write(path: str, data: bytes | memoryview) -> None:
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123
        file.write(data)


def pillow(resolution_px: int) -> Draw:
    """Pillow decodes and squeezes."""
    import io

    from PIL import Image

    size = (resolution_px, resolution_px)
    return lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize(size, Image.Resampling.BILINEAR))


def torchvision(resolution_px: int) -> Draw:
    """Torchvision decodes, torch squeezes with antialiasing, channels last, which is its fastest way."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    torch.set_num_threads(1)

    def draw(data: bytes) -> np.ndarray:
        image = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
        return _squeeze(image.permute(1, 2, 0), resolution_px)

    return draw


def simplejpeg(resolution_px: int) -> Draw:
    """The package simplejpeg decodes, torch squeezes."""
    import torch
    from simplejpeg import decode_jpeg

    torch.set_num_threads(1)
    return lambda data: _squeeze(torch.from_numpy(decode_jpeg(data, "RGB")), resolution_px)


def _squeeze(pixels: Any, resolution_px: int) -> np.ndarray:
    from torch.nn import functional

    image = pixels[None].permute(0, 3, 1, 2)
    small = functional.interpolate(image, size=(resolution_px, resolution_px), mode="bilinear", antialias=True)
    return small.permute(0, 2, 3, 1).numpy()[0]


def opencv(resolution_px: int, *, is_antialiased: bool = True) -> Draw:
    """OpenCV decodes and squeezes, by the mean over areas."""
    import cv2

    cv2.setNumThreads(1)
    how = cv2.INTER_AREA if is_antialiased else cv2.INTER_LINEAR
    size = (resolution_px, resolution_px)
    return lambda data: cv2.resize(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), size, interpolation=how
    )


def opencv_skipping(resolution_px: int) -> Draw:
    """OpenCV without antialiasing: less work, and another picture, full of what was skipped."""
    return opencv(resolution_px, is_antialiased=False)


LOOPS: Mapping[str, Callable[[int], Draw]] = {
    "pillow": pillow, "torchvision": torchvision, "simplejpeg": simplejpeg, "opencv": opencv,
}  # fmt: skip
"""Bare loops that do the same work as we do."""

CONTENDERS: Mapping[str, Callable[[Path, Path, int], Callable[[], dict[str, Any]]]] = {
    "petpark": petpark,
    "petpark_again": petpark_again,
    "petpark_epoch": petpark_epoch,
    "imagefolder": image_folder("ToTensor"),
    "imagefolder_uint8": image_folder("PILToTensor"),
    "opencv_skipping": bare_loop(opencv_skipping),
    **{name: bare_loop(make_draw) for name, make_draw in LOOPS.items()},
}

if __name__ == "__main__":
    main()
