"""A Ray cluster of several nodes on this machine, told what to do by lines on standard input.

Prints its address and that of its door for clients, then answers each line: `kill NODE_ID` and `add`, and ends with
its input. Its head runs no tasks; of its two other nodes the first has a GPU, by name.
"""

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a dozen processes would compile Ray anew, and none be up in time

from ray.cluster_utils import Cluster

AGENTS = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port", "metrics_export_port")
CPUS = 2


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def node(folder: str) -> dict[str, Any]:
    """A node's settings. Its agents' ports are given: Ray gives up after 15 s of waiting for them to choose.

    Its folder is its own: nodes that share one delete each other's copies of a job's working directory.
    """
    ports = dict(zip(AGENTS, free_ports(len(AGENTS)), strict=True))
    own = tempfile.mkdtemp(prefix="n", dir=folder)
    return {"object_store_memory": 200 << 20, "temp_dir": own, **ports}


def patiently(start: Callable[[], Any]) -> Any:
    """What `start` gives; it is asked again where a busy machine took longer than the 30 s that Ray waits."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:  # noqa: BLE001 - Ray raises nothing more special
            print(f"again: {error}", file=sys.stderr)
    return start()


def run(folder: str) -> None:
    (door,) = free_ports(1)
    head = {"num_cpus": 0, "include_dashboard": False, "ray_client_server_port": door}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args={**node(folder), **head}))
    nodes = [
        patiently(lambda gpu=gpu: cluster.add_node(**node(folder), num_cpus=CPUS, num_gpus=gpu)) for gpu in (1, 0)
    ]
    cluster.wait_for_nodes()
    print(f"ADDRESS {cluster.address} ray://{cluster.address.partition(':')[0]}:{door}", flush=True)
    for line in sys.stdin:
        word, _, node_id = line.strip().partition(" ")
        if word == "kill":
            found = next(each for each in nodes if each.node_id == node_id)
            cluster.remove_node(found, allow_graceful=False)
            nodes.remove(found)
        elif word == "add":
            nodes.append(patiently(lambda: cluster.add_node(**node(folder), num_cpus=CPUS)))
        print(f"DONE {word}", flush=True)
    cluster.shutdown()


def main() -> None:
    with tempfile.TemporaryDirectory(
        prefix="ray", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:  # sockets: short
        run(folder)


if __name__ == "__main__":
    main()
