"""What each step of a build uses on the production profile, from the photos of a lake to a registered model.

    PETPARK_PHOTOS=~/photos python -m petpark_assets_tests.benchmarks.build_on_s3 [LARGEST_SIZE]

All of `make production` runs, anew for each size; then every step of the job `build` is executed by itself, in a
process as Dagster gives it one, and counters.py says what was used meanwhile. The recipe is `laptop` with its network
and its resolution, but one epoch, and two trials on a tenth of the photos: what a photo costs to learn from grows with
both, and a build by the whole recipe would take hours. What the model is worth is not asked. One run a size.
`idle` is a minute in which nobody asks for anything. Three quarters of an hour on two idle cores, 12 GB of memory.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from infra.production.parts import STORE, Park, start
from infra.production.processes import nothing_left
from petpark_assets_tests.benchmarks import ingestion, ingestion_on_s3
from petpark_assets_tests.benchmarks.counters import counting
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.benchmarks.mosaics import draw_mosaics

RESULT = Path(__file__).parent / "results" / "build-on-s3.json"
MODULE = "petpark_assets_tests.benchmarks.build_on_s3"
SIZES = (1_000, 10_000, 100_000)
INGESTION = "new_dataset_version"
STEPS = {
    "raw_images": ["raw_images"],
    "split": ["train_split", "test_split"],
    **{
        name: [name]
        for name in (
            "feature_scaling", "hyperparameter_search", "trained_cnn", "evaluation_report", "onnx_package",
            "registered_model",
        )
    },
}  # fmt: skip
"""Assets of the job `build`, in their order, by the name of the step that makes them."""
RECIPE = {
    "recipe": "laptop",
    "search": {"num_trials": 2, "trial_epochs": 1, "photos_share": 0.1},
    "hyperparameters": {"epochs": 1},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
}
IDLE_S = 60


def main() -> None:
    """Measure in folders that are thrown away, and write the result."""
    photos = Path(os.environ.get("PETPARK_PHOTOS") or sys.exit("set PETPARK_PHOTOS to a folder of real photos"))
    sizes = [size for size in SIZES if size <= int(sys.argv[1] if len(sys.argv) > 1 else max(SIZES))]
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as name, nothing_left():
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as another user, and must pass
        draw_mosaics(photos, folder / "mosaics", max(sizes))
        found = {str(size): measure(folder, size) for size in sizes}
    result = {**describe_run(f"python -m {MODULE}"), "ray_nodes": 2, "recipe": RECIPE, "n": 1, "by_size": found}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    _say(f"{RESULT}")


def measure(folder: Path, size: int) -> dict[str, Any]:
    """One size on a park of its own: what it uses when idle, and at each step."""
    lake = ingestion._take(folder / "mosaics", folder / f"lake-{size}", size)
    home = folder / f"park-{size}"
    home.mkdir(mode=0o711)
    with ExitStack() as stack:
        park = start(stack, home, _say)
        ingestion_on_s3.upload(park, lake, size)
        with counting(park) as idle:
            time.sleep(IDLE_S)
        steps = {step: execute(park, size, step) for step in (INGESTION, *STEPS)}
        return {"idle": idle, "steps": steps, "store": rooms(park)}


def rooms(park: Park) -> dict[str, dict[str, int]]:
    """Objects and bytes in the store's bucket in the end, by folder."""
    found: dict[str, dict[str, int]] = {}
    for page in ingestion_on_s3.server(park).client().get_paginator("list_objects_v2").paginate(Bucket=STORE):
        for item in page.get("Contents", []):
            room = found.setdefault("/".join(item["Key"].split("/")[:2]), {"objects": 0, "bytes": 0})
            room["objects"], room["bytes"] = room["objects"] + 1, room["bytes"] + item["Size"]
    return found


def execute(park: Park, size: int, step: str) -> dict[str, float]:
    """One step in a process of its own; what was used meanwhile."""
    variables = {**park.variables, "PETPARK_LAKE": ingestion_on_s3.lake_uri(size)}
    home, started = _bytes_in(park.variables["PETPARK_HOME"]), time.perf_counter()
    with counting(park) as used:
        subprocess.run(
            [sys.executable, "-m", MODULE, "run", step], env=variables, stdout=subprocess.DEVNULL, check=True
        )
    seconds = round(time.perf_counter() - started, 2)
    _say(f"{size}: {step} took {seconds} s")
    return {"seconds": seconds, **used, "home_bytes": _bytes_in(park.variables["PETPARK_HOME"]) - home}


def run(step: str) -> None:
    """Execute a step on the instance in PostgreSQL: what `execute` starts."""
    import dagster as dg

    from petpark_assets.definitions import build_defs
    from petpark_assets.resources.environments import enter_profile

    environment = enter_profile()
    definitions, config = build_defs(environment), {"resources": {"recipe": {"config": RECIPE}}}
    with dg.DagsterInstance.get() as instance:
        if step == INGESTION:
            looking = {"ops": {"look_at_the_lake": {"config": {"lake": environment.lake}}}, **config}
            definitions.resolve_job_def(INGESTION).execute_in_process(run_config=looking, instance=instance)
            return
        definitions.resolve_job_def("build").execute_in_process(
            run_config=config,
            instance=instance,
            partition_key="v0001",
            asset_selection=[dg.AssetKey(name) for name in STEPS[step]],
        )


def _bytes_in(folder: str) -> int:
    """Of a home: copies of photos and of what follows from manifests, and pages; the rest is on S3."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    run(sys.argv[2]) if sys.argv[1:2] == ["run"] else main()
