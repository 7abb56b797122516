"""Claims about infra/gpu_demand.py: what waits for a GPU on a real Ray is what CloudWatch is told."""

import runpy
import time

from petpark_assets.resources.ray_cluster import started
from petpark_assets_tests.infra.stack import INFRA, NAME, client

SCRIPT = runpy.run_path(str(INFRA / "gpu_demand.py"))


def test_what_is_used_and_what_waits_is_told(aws_server):
    """By Ray's own words for it: tasks and a group that wait, a GPU in use; processor cores are nothing to it."""
    from ray.autoscaler.v2 import schema

    status = schema.ClusterStatus(
        cluster_resource_usage=[schema.ResourceUsage("CPU", 4, 3), schema.ResourceUsage("GPU", 2, 1)],
        resource_demands=schema.ResourceDemandSummary(
            ray_task_actor_demand=[
                schema.RayTaskActorDemand(bundles_by_count=[schema.ResourceRequestByCount({"GPU": 0.5, "CPU": 1}, 3)]),
                schema.RayTaskActorDemand(bundles_by_count=[schema.ResourceRequestByCount({"CPU": 1}, 9)]),
            ],
            placement_group_demand=[
                schema.PlacementGroupResourceDemand([schema.ResourceRequestByCount({"GPU": 1}, 2)], details="")
            ],
        ),
    )
    values = SCRIPT["measure"](status)
    assert values == {"GpusWaitedFor": 3.5, "GpusInDemand": 4.5}
    assert SCRIPT["measure"](schema.ClusterStatus()) == {"GpusWaitedFor": 0, "GpusInDemand": 0}
    metrics = client(aws_server, "cloudwatch")
    SCRIPT["tell"](metrics, NAME, values)
    names = {metric["MetricName"] for metric in metrics.list_metrics(Namespace=NAME)["Metrics"]}
    assert names == {"GpusWaitedFor", "GpusInDemand"}


def test_work_that_waits_for_a_gpu_is_seen_on_a_real_ray():
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
