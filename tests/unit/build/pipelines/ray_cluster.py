"""A Ray cluster of several nodes on this machine, told what to do by lines on standard input.

Prints its address, then answers each line: `kill NODE_ID` and `add`, and ends with its input.
"""

import sys

from ray.cluster_utils import Cluster

NODE = {"node_ip_address": "127.0.0.1", "object_store_memory": 200 << 20}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(**NODE, num_cpus=2) for _ in range(2)]
    cluster.wait_for_nodes()
    print(f"ADDRESS {cluster.address}", flush=True)
    for line in sys.stdin:
        word, _, node_id = line.strip().partition(" ")
        if word == "kill":
            found = next(node for node in nodes if node.node_id == node_id)
            cluster.remove_node(found, allow_graceful=False)
            nodes.remove(found)
        elif word == "add":
            nodes.append(cluster.add_node(**NODE, num_cpus=2))
        print(f"DONE {word}", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
