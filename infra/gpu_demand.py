"""Tell CloudWatch each minute what GPUs a Ray cluster has work for; the group GpuGroup grows and shrinks by that.

    python infra/gpu_demand.py RAY_HEAD:6379 NAMESPACE

GpusWaitedFor is what asks for a GPU that is not there or not free; GpusInDemand adds what is being used. A cluster that
does not answer is said to be unknown by saying nothing: the alarms then change nothing.
"""

import os
import sys
import time
from typing import Any

PERIOD_S = 60


def measure(status: Any) -> dict[str, float]:
    """GPUs by metric of a Ray cluster's status (ray.autoscaler.v2.schema.ClusterStatus)."""
    used = sum(usage.used for usage in status.cluster_resource_usage if usage.resource_name == "GPU")
    demands = [*status.resource_demands.ray_task_actor_demand, *status.resource_demands.placement_group_demand]
    waited_for = sum(
        request.count * request.bundle.get("GPU", 0) for demand in demands for request in demand.bundles_by_count
    )
    return {"GpusWaitedFor": float(waited_for), "GpusInDemand": float(waited_for + used)}


def tell(client: Any, namespace: str, values: dict[str, float]) -> None:
    """Put the values into CloudWatch."""
    data = [{"MetricName": name, "Value": value, "Unit": "Count"} for name, value in values.items()]
    client.put_metric_data(Namespace=namespace, MetricData=data)


def main(address: str, namespace: str) -> None:
    """Tell for ever."""
    import boto3
    from ray.autoscaler.v2.sdk import get_cluster_status

    client = boto3.client("cloudwatch", region_name=os.environ.get("AWS_REGION"))  # which boto3 does not read itself
    while True:
        try:
            tell(client, namespace, measure(get_cluster_status(address)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it may have passed in a minute
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main(*sys.argv[1:3])
