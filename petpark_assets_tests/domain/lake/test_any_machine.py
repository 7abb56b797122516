"""A version is the same whatever the processor computes it with: a park's auditor makes it again on another machine."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from petpark_assets.domain.lake.drawn import draw_lake

INGEST = """
import hashlib, sys
from pathlib import Path

import pyarrow.compute as pc
from threadpoolctl import threadpool_info

if sys.argv[1] == "by torch":
    import torch

from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.workflow import ingestion

home = open_home(Path(sys.argv[3]), actor="tester")
ingestion.new_dataset_version(home, sys.argv[2], 64)
manifest = catalogue.read_manifest(home.store, "v0001")
sha256s = sorted(set(manifest.filter(pc.equal(manifest["state"], catalogue.ACCEPTED))["sha256"].to_pylist()))
pixels = home.pixels.read(sha256s, 64)
print(catalogue.manifest_sha256(home.store, "v0001"), hashlib.sha256(pixels).hexdigest(), len(pixels))
print([found["architecture"] for found in threadpool_info() if found["user_api"] == "blas"][0], file=sys.stderr)
"""

NARROW = {
    "ARROW_USER_SIMD_LEVEL": "NONE",
    "ATEN_CPU_CAPABILITY": "default",
    "JSIMD_FORCENONE": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
}
"""As on a processor of 2008, for each library that chooses its instructions: no fused products, vectors of 128 bits."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn photos, real ones among them where there are any."""
    folder = tmp_path_factory.mktemp("any") / "lake"
    draw_lake(folder, num_images=60)
    photos = os.environ.get("PETPARK_PHOTOS")
    for path in sorted(Path(photos).glob("*/*.jpg"))[::100] if photos else []:
        (folder / path.parent.name / f"real-{path.name}").symlink_to(path)
    return folder


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of instructions are those of x86-64")
def test_a_processor_of_2008_makes_the_same_version(lake: Path, tmp_path: Path):
    """Sums are of whole numbers that are added exactly, so neither their order nor fused products change a byte."""

    def ingest(manner: str, name: str, **variables: str) -> tuple[str, str]:
        command = [sys.executable, "-W", "ignore", "-c", INGEST, manner, str(lake), str(tmp_path / name)]
        run = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
        return run.stdout, run.stderr.splitlines()[-1]

    here, _ = ingest("by torch", "here")
    narrow, computed_as = ingest("by numpy", "narrow", **NARROW)
    assert computed_as == NARROW["OPENBLAS_CORETYPE"]
    assert narrow == here
    assert ingest("by torch", "narrow-torch", **NARROW)[0] == here
