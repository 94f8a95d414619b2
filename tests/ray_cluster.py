"""A Ray cluster of several nodes on this machine, in a process of its own that is told what to do by lines.

Run, it prints its address and that of its door for clients, then answers each line of its input: `kill NODE_ID` and
`add`, and ends with it. The head runs no tasks; the other nodes have a GPU each, by name.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.kit.processes import kill_tree
from tests.ports import free_port

AGENTS = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port", "metrics_export_port")
OFFERS = {"num_cpus": 2, "num_gpus": 1}
VARIABLES = {"RAY_agent_register_timeout_ms": "120000", "RAY_USAGE_STATS_ENABLED": "0"}


class RayCluster:
    """A running one; `address` is for its own machines, `door` for others."""

    def __init__(self, token: str = "") -> None:
        """token: what it asks for."""
        variables = {**os.environ, **VARIABLES}
        variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)  # else a dozen processes compile Ray, and none is up in time
        pipe = subprocess.PIPE
        command, root = [sys.executable, "-m", "tests.ray_cluster"], Path(__file__).parents[1]
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=variables, cwd=root
        )
        _, self.address, self.door = self._answer("ADDRESS")

    def _answer(self, word: str) -> list[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.split()
        raise AssertionError("the cluster ended")

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        self._answer("DONE")

    def stop(self) -> None:
        self.process.communicate(timeout=60)


def node(folder: str) -> dict[str, Any]:
    """A node's settings. Its agents' ports are given: Ray gives up after 15 s of waiting for them to choose.

    Its folder is its own: nodes that share one delete each other's copies of a job's working directory.
    """
    ports = {agent: free_port() for agent in AGENTS}
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
    from ray.cluster_utils import Cluster  # late: slow to load, and an extra

    door = free_port()
    head = {"num_cpus": 0, "include_dashboard": False, "ray_client_server_port": door}
    os.makedirs("/tmp/ray", exist_ok=True)  # where Ray notes the address, wherever else its files are
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args={**node(folder), **head}))
    nodes = [patiently(lambda: cluster.add_node(**node(folder), **OFFERS)) for _ in range(2)]
    cluster.wait_for_nodes()
    print(f"ADDRESS {cluster.address} ray://{cluster.address.partition(':')[0]}:{door}", flush=True)
    for line in sys.stdin:
        word, _, node_id = line.strip().partition(" ")
        if word == "kill":
            found = next(each for each in nodes if each.node_id == node_id)
            kill_tree(found.all_processes["raylet"][0].process.pid)  # at once, as a machine ends
            cluster.remove_node(found, allow_graceful=False)
            nodes.remove(found)
        elif word == "add":
            nodes.append(patiently(lambda: cluster.add_node(**node(folder), **OFFERS)))
        print(f"DONE {word}", flush=True)
    cluster.shutdown()


def main() -> None:
    with tempfile.TemporaryDirectory(
        prefix="ray", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:  # sockets: short
        run(folder)


if __name__ == "__main__":
    main()
