"""One logistic model on a Ray cluster of this machine: our worker as an actor behind our gateway, beside Ray Serve.

    python benchmarks/bench_serving_on_ray.py [--seconds 2] [--turns 2]

Both clusters are counted in whole: CPU and memory are those of Ray's own processes too.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import serving_servers as servers
from serving_load import resident_mb
from serving_parts import CELLS, Cells, figures, measure
from serving_servers import TOKEN, Model, Server, free_port, launch, running, write_routing
from sklearn.linear_model import LogisticRegression

from modelyard.kit.hashing import digest_file


def ours(model: Model, home: Path) -> Server:
    """A cluster of one node, the keeper that puts a worker there, and the gateway."""
    port, folder = free_port(), home / "serving" / "bench"
    folder.mkdir(parents=True)
    server = Server(free_port(), "/endpoints/m/invocations", headers=f"authorization: Bearer {TOKEN}\r\n")
    server.folder, server.log = folder, folder / "gateway.log"
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port", str(port)]
    ray += ["--num-cpus", "2", "--include-dashboard", "false", "--temp-dir", tempfile.mkdtemp(prefix="yr-")]
    server.processes.append(launch(ray, folder / "ray.log"))
    files = [file for file in model.folder.rglob("*") if file.is_file()]
    spec = {
        "id": "w1", "deployment": "d1", "model": "m", "version": 1, "digest": "0" * 64,
        "model_dir": str(model.folder), "socket": f"{tempfile.mkdtemp(prefix='yb-')}/1.sock",
        "manifest": {file.relative_to(model.folder).as_posix(): digest_file(file) for file in files},
    }  # fmt: skip
    (folder / "w1.json").write_text(json.dumps(spec))
    (folder / "desired.json").write_text(json.dumps({"workers": [spec]}))
    write_routing(server, {1: 1.0})
    keeper = [sys.executable, "-m", "modelyard.deliver.deployments.ray_keeper", "--home", str(home)]
    keeper += ["--environment", "bench", "--address", f"127.0.0.1:{port}"]
    again = f"until {' '.join(keeper)}; do sleep 0.5; done"  # as the supervisor does, until the cluster is there
    server.processes.append(launch(["sh", "-c", again], folder / "keeper.log"))
    gateway = [sys.executable, "-m", "modelyard.deliver.serving.gateway", "--environment", "bench"]
    gateway += ["--folder", str(folder), "--port", str(server.port), "--admin-socket", f"{spec['socket']}.admin"]
    server.processes.append(launch(gateway, server.log))
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    found: dict[str, Cells] = {"modelyard": {}, "ray": {}}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, contextlib.ExitStack() as stack:
        home = Path(name)
        model = servers.train("logistic", LogisticRegression(), home)
        pair = {"modelyard": stack.enter_context(running(ours(model, home)))}
        pair["ray"] = stack.enter_context(running(servers.peer("ray", model, home)))
        for cell, (rows, connections) in CELLS.items():
            for key, server in pair.items():
                turns = [measure(server, rows, connections, options.seconds) for _ in range(options.turns)]
                found[key][cell] = figures(turns)
        for key, server in pair.items():
            found[key]["memory"] = {"all": resident_mb(server.pids)}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
