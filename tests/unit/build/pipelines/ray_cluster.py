"""A Ray cluster of several nodes on this machine, told what to do by lines on standard input.

Prints its address, then answers each line: `kill NODE_ID` and `add`, and ends with its input.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")

from ray.cluster_utils import Cluster

AGENTS = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port", "metrics_export_port")


def node() -> dict[str, Any]:
    """A node's settings. Its agents' ports are given: Ray gives up after 15 s of waiting for them to choose."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in AGENTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = dict(zip(AGENTS, (each.getsockname()[1] for each in sockets), strict=True))
    return {"node_ip_address": "127.0.0.1", "object_store_memory": 200 << 20, **ports}


def patiently(start: Callable[[], Any]) -> Any:
    """What `start` gives; it is asked again where a busy machine took longer than the 30 s that Ray waits."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:  # noqa: BLE001 - Ray raises nothing more special
            print(f"again: {error}", file=sys.stderr)
    return start()


def main() -> None:
    head = {**node(), "num_cpus": 0, "include_dashboard": False}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    nodes = [patiently(lambda: cluster.add_node(**node(), num_cpus=2)) for _ in range(2)]
    cluster.wait_for_nodes()
    print(f"ADDRESS {cluster.address}", flush=True)
    for line in sys.stdin:
        word, _, node_id = line.strip().partition(" ")
        if word == "kill":
            found = next(each for each in nodes if each.node_id == node_id)
            cluster.remove_node(found, allow_graceful=False)
            nodes.remove(found)
        elif word == "add":
            nodes.append(patiently(lambda: cluster.add_node(**node(), num_cpus=2)))
        print(f"DONE {word}", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
