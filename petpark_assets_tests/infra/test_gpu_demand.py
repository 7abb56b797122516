"""Claims about infra/gpu_demand.py: what waits for a GPU on a real Ray is what CloudWatch is told."""

import runpy
import time

import pytest

from petpark_assets.resources.ray_cluster import started
from petpark_assets_tests.infra.stack import INFRA, NAME, client

SCRIPT = runpy.run_path(str(INFRA / "gpu_demand.py"))


@pytest.mark.long
def test_work_that_waits_for_a_gpu_is_told(aws_server):
    """On a Ray without a GPU: nothing waits, then three tasks do, of half a GPU each."""
    with started(num_cpus=1):
        import ray
        from ray.autoscaler.v2.sdk import get_cluster_status

        address = ray.get_runtime_context().gcs_address
        assert SCRIPT["measure"](get_cluster_status(address)) == {"GpusWaitedFor": 0, "GpusInDemand": 0}
        task = ray.remote(num_gpus=0.5)(int)
        waiting = [task.remote() for _ in range(3)]
        deadline = time.monotonic() + 20
        while not (values := SCRIPT["measure"](get_cluster_status(address)))["GpusWaitedFor"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert values == {"GpusWaitedFor": 1.5, "GpusInDemand": 1.5}
        assert len(waiting) == 3
    metrics = client(aws_server, "cloudwatch")
    SCRIPT["tell"](metrics, NAME, values)
    names = {metric["MetricName"] for metric in metrics.list_metrics(Namespace=NAME)["Metrics"]}
    assert names == {"GpusWaitedFor", "GpusInDemand"}
