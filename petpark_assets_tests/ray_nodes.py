"""A Ray cluster of two nodes on this machine, for a process of its own: Ray knows one cluster a process.

Not here: the production profile's two nodes (infra/production/ray_nodes.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from petpark_assets.resources import ray_cluster

OBJECT_STORE_BYTES = 100 * 2**20


@contextmanager
def two_nodes(**size: int) -> Iterator[str]:
    """Two nodes, each with so many `num_cpus`, `num_gpus`; their address.

    Of GPUs Ray only keeps the books: it believes in those it is told of.
    """
    from ray.cluster_utils import Cluster

    size = {"object_store_memory": OBJECT_STORE_BYTES, **size}
    with ray_cluster._environment(ray_cluster._local_settings()), ray_cluster._temporary_folder() as folder:
        os.environ["RAY_TMPDIR"] = str(folder)
        (folder / "ray").mkdir()  # where it writes its address
        head = {**size, "include_dashboard": False, "temp_dir": str(folder)}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(**size)
            yield cluster.address
        finally:
            cluster.shutdown()
