"""A Ray cluster of two nodes on loopback: `python -m infra.production.ray_nodes PORT DASHBOARD_PORT`.

Not `ray start`: that binds the machine's network address, and refuses a second node where it is told not to. This is
Ray's own class for several nodes on one machine. The head's dashboard is the job server, on loopback too.
When the head is lost this ends; a lost second node costs what ran there.
"""

import os
import signal
import sys
from typing import Any

from infra.production.processes import free_port

NUM_NODES = 2
OBJECT_STORE_BYTES = 200 * 1024 * 1024
"""Of each node: trials are handed paths, never photos."""
LOOK_S = 0.5


def main() -> int:
    """Serve until told to stop; 1 when the head is lost."""
    from ray.cluster_utils import Cluster

    ending = {signal.SIGTERM, signal.SIGINT}
    num_cpus = max(1, (os.cpu_count() or 1) // NUM_NODES)
    size = {"num_cpus": num_cpus, "object_store_memory": OBJECT_STORE_BYTES, "node_ip_address": "127.0.0.1"}
    port, dashboard_port = map(int, sys.argv[1:])
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": dashboard_port}
    # By default the agents of all heads of a machine share a port.
    head = {**size, "gcs_server_port": port, **dashboard, "dashboard_agent_listen_port": free_port()}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(1, NUM_NODES):
        cluster.add_node(**size)
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # not before: Ray's processes would inherit it
    print(f"{NUM_NODES} nodes are up", flush=True)  # noqa: T201 - what the starter waits for
    try:
        while signal.sigtimedwait(ending, LOOK_S) is None:
            if cluster.head_node.dead_processes():
                print("the head is lost:", cluster.head_node.dead_processes())  # noqa: T201 - the log
                return 1
    finally:
        cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
