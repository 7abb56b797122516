"""Claims about ingestion on a Ray cluster: the work is shared out, nothing is lost, and the version is the same."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petpark_assets.domain import files
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets_tests.domain.lake.test_ingest import SIDE, make_lake, rows, run

ON_TWO_NODES = """
import json, sys
from pathlib import Path
from petpark_assets.resources import ray_cluster
from petpark_assets_tests.domain.lake.test_ingest import run
from petpark_assets_tests.ray_nodes import two_nodes
from petpark_assets_tests.resources.test_map_on_ray import Witnessed

lake, home, notes = map(Path, sys.argv[1:])
with two_nodes(num_cpus=1) as address, ray_cluster.RayCluster(address=address).mapping_shards() as map_shards:
    result = run(lake, home, map_shards=lambda function, shards: map_shards(Witnessed(function, notes), shards))
print(json.dumps([result.raw_images.manifest, result.num_decoded]))
"""


@dataclass(frozen=True)
class Witnessed:
    """A function that notes on which node it ran, waits for the other node's first note, and once dies with its worker.

    Without the waiting one node might be done with all before the other's worker has started.
    """

    function: object
    notes: Path

    def __call__(self, shard):
        """Work; the first answer is lost."""
        import ray

        answer = self.function(shard)
        try:
            (self.notes / "died").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            (self.notes / f"{ray.get_runtime_context().get_node_id()}.{shard[0].key.replace('/', '.')}").touch()
        end = time.monotonic() + 60
        while len({path.name.split(".")[0] for path in self.notes.iterdir()} - {"died"}) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        return answer


def test_two_nodes_make_the_version_that_one_machine_makes(tmp_path):
    """A cluster only saves time: it must neither change a digest, nor lose the photos of a worker that dies."""
    lake, notes = make_lake(tmp_path / "lake", 300), tmp_path / "notes"
    notes.mkdir()
    arguments = [str(lake), str(tmp_path / "far"), str(notes)]
    done = subprocess.run([sys.executable, "-c", ON_TWO_NODES, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    here = run(lake, tmp_path / "here")

    assert json.loads(done.stdout.splitlines()[-1]) == [here.raw_images.manifest, 300]
    workers = [path.name.split(".", 1) for path in notes.iterdir() if path.name != "died"]
    assert len({node for node, _ in workers}) == 2
    assert (notes / "died").exists()
    sha256s = sorted(row["sha256"] for row in rows(tmp_path / "far").values())
    stores = [PixelStore(tmp_path / home / "store/pixels.lance") for home in ("far", "here")]
    assert np.array_equal(*(pixels.read(sha256s, SIDE) for pixels in stores))
    assert len(stores[0].stored(SIDE)) == 300  # what the dead worker wrote is no part of the table
    assert catalogue.list_versions(files.LocalStore(tmp_path / "far/store")) == ["v0001"]
