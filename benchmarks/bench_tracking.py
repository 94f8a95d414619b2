"""Tracking beside `mlflow server`: same client, same machine, same run. Prints a Markdown table.

Usage: python benchmarks/bench_tracking.py [--quick] [--without-mlflow] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import raw_load
import tracking_servers as servers
import urllib3
from tracking_servers import Running, call

Figures = dict[str, dict[str, float]]


def note(figures: Figures, what: str, server: Running, value: float) -> None:
    figures.setdefault(what, {})[server.name] = value
    print(f"  {server.name:14} {what:52} {value:12.3f}", file=sys.stderr)


def cpu_per_call(server: Running, count: int, work: Callable[[int], object]) -> tuple[float, float]:
    """(ms of server CPU, ms of wall time) for each of `count` calls."""
    for number in range(max(3, count // 20)):
        work(1_000_000 + number)
    cpu, wall = server.cpu_s(), time.perf_counter()
    for number in range(count):
        work(number)
    took = time.perf_counter() - wall
    spent = server.cpu_s() - cpu - server.idle_share * took  # its loops would have run without these calls too
    return max(spent, 0.0) / count * 1000, took / count * 1000


def client_calls(server: Running, figures: Figures, count: int) -> None:
    """Single calls through the stock client, whose own messages are kept out of the table."""
    with contextlib.redirect_stdout(sys.stderr):
        _client_calls(server, figures, count)


def _client_calls(server: Running, figures: Figures, count: int) -> None:
    os.environ.update(MLFLOW_TRACKING_URI=server.url, MLFLOW_TRACKING_TOKEN=server.token)
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(server.url)
    run = client.create_run("0").info.run_id
    other = client.create_run("0").info.run_id
    client.log_batch(other, metrics=[Metric(f"m{n}", n, 0, 0) for n in range(10)])
    for what, work in {
        "log_metric": lambda n: client.log_metric(run, "loss", 0.5 + n, step=n),
        "log_param": lambda n: client.log_param(run, f"p{n}", n),
        "set_tag": lambda n: client.set_tag(run, f"t{n % 10}", str(n)),
        "get_run": lambda n: client.get_run(other),
    }.items():
        cpu, wall = cpu_per_call(server, count, work)
        note(figures, f"{what}: server CPU, ms a call", server, cpu)
        note(figures, f"{what}: wall, ms a call", server, wall)

    def life(number: int) -> None:
        client.set_terminated(client.create_run("0").info.run_id)

    note(figures, "create and end a run: server CPU, ms", server, cpu_per_call(server, count // 2, life)[0])
    batch_run = client.create_run("0").info.run_id

    def batch(number: int) -> None:
        points = [Metric(f"k{n % 20}", 0.5 * n, number * 1000 + n, number * 1000 + n) for n in range(1000)]
        client.log_batch(batch_run, metrics=points)

    cpu, wall = cpu_per_call(server, max(5, count // 20), batch)
    note(figures, "log_batch of 1,000: server CPU, ms", server, cpu)
    note(figures, "log_batch of 1,000: metrics/s through the client", server, 1000 / wall * 1000)


def raw_calls(server: Running, figures: Figures, seconds: float) -> None:
    pool = urllib3.PoolManager()
    run = "0" * 32
    if server.name != "bare handler":
        run = call(server, pool, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    path = "/api/2.0/mlflow/runs/log-metric"

    def maker(connection: int) -> Callable[[int], bytes]:
        def payload(number: int) -> bytes:
            body = {"run_id": run, "key": f"k{connection}", "value": 0.5, "timestamp": number, "step": number}
            return raw_load.request(path, json.dumps(body).encode(), server.token)

        return payload

    for connections in (1, 32):
        payloads = [maker(n) for n in range(connections)]
        raw_load.rate(server.url, payloads, 0.5)
        before = server.cpu_s()
        rate = raw_load.rate(server.url, payloads, seconds)
        cpu = (server.cpu_s() - before) / (rate * seconds) * 1000
        note(figures, f"raw log-metric, {connections} connections: requests/s", server, rate)
        note(figures, f"raw log-metric, {connections} connections: server CPU, ms", server, cpu)


def fill(server: Running, runs: int) -> str:
    """The id of an experiment with `runs` runs of 20 metrics and 20 params each."""
    pool, chance = urllib3.PoolManager(), random.Random(7)
    experiment = call(server, pool, "POST", "experiments/create", {"name": f"search-{runs}"})["experiment_id"]
    for number in range(runs):
        body = {"experiment_id": experiment, "start_time": 1_000_000 + number, "run_name": f"run-{number}"}
        run = call(server, pool, "POST", "runs/create", body)["run"]["info"]["run_id"]
        metrics = [{"key": f"m{n}", "value": chance.random(), "timestamp": 1, "step": 0} for n in range(20)]
        params = [{"key": f"p{n}", "value": str(chance.randrange(10))} for n in range(20)]
        call(server, pool, "POST", "runs/log-batch", {"run_id": run, "metrics": metrics, "params": params})
    return experiment


SEARCHES: dict[str, dict[str, Any]] = {
    "filter and order": {
        "filter": "metrics.m3 > 0.5 AND params.p4 = '3'",
        "order_by": ["metrics.m5 DESC"],
        "max_results": 100,
    },
    "newest first": {"max_results": 100},
    "ordered by a metric": {"order_by": ["metrics.m7 ASC"], "max_results": 100},
    "page of 1,000": {"max_results": 1000},
}


def searches(server: Running, figures: Figures, runs: int, repeats: int) -> None:
    experiment, pool = fill(server, runs), urllib3.PoolManager()
    for what, body in SEARCHES.items():
        taken: list[float] = []
        for _ in range(repeats):
            began = time.perf_counter()
            found = call(server, pool, "POST", "runs/search", {"experiment_ids": [experiment], **body})
            taken.append((time.perf_counter() - began) * 1000)
            assert len(found["runs"]) == min(body["max_results"], runs) or "filter" in body
        taken.sort()
        note(figures, f"search {runs:,} runs, {what}: p50 ms", server, taken[len(taken) // 2])
        note(figures, f"search {runs:,} runs, {what}: p95 ms", server, taken[int(len(taken) * 0.95)])


def artifacts(server: Running, figures: Figures, megabytes: int) -> None:
    pool = urllib3.PoolManager()
    data, headers = os.urandom(megabytes << 20), {"authorization": f"Bearer {server.token}"}
    url = f"{server.url}/api/2.0/mlflow-artifacts/artifacts/0/bench/artifacts/big.bin"
    for what, ask in {
        "up": lambda: pool.request("PUT", url, body=data, headers=headers, timeout=300),
        "down": lambda: pool.request("GET", url, headers=headers, timeout=300),
    }.items():
        ask()
        before, began = server.cpu_s(), time.perf_counter()
        answer = ask()
        assert answer.status == 200, answer.data[:300]
        took = time.perf_counter() - began
        note(figures, f"artifact of {megabytes} MB {what}: MB/s", server, megabytes / took)
        note(figures, f"artifact of {megabytes} MB {what}: server CPU, ms", server, (server.cpu_s() - before) * 1000)


def million_points(server: Running, figures: Figures) -> None:
    pool = urllib3.PoolManager()
    run = call(server, pool, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    for part in range(1000):
        points = [
            {"key": f"k{n % 10}", "value": n * 0.5, "timestamp": part * 1000 + n, "step": part * 1000 + n}
            for n in range(1000)
        ]
        call(server, pool, "POST", "runs/log-batch", {"run_id": run, "metrics": points})
    note(figures, "memory after 1,000,000 points, MB", server, server.rss_mb())


def table(figures: Figures) -> str:
    names = ["modelyard", "mlflow", "bare handler"]
    lines = ["| | modelyard | MLflow 3.17.2 | bare handler | MLflow / modelyard |", "|---|---|---|---|---|"]
    for what, by in figures.items():
        cells = [f"{by[name]:,.2f}" if name in by else "" for name in names]
        ratio = ""
        if "mlflow" in by and "modelyard" in by:
            faster = by["modelyard"] / by["mlflow"] if what.endswith("/s") or "client" in what else None
            ratio = f"{faster if faster is not None else by['mlflow'] / max(by['modelyard'], 1e-6):,.1f}"
        lines.append(f"| {what} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def measure(server: Running, figures: Figures, options: argparse.Namespace) -> None:
    quick, slow = options.quick, server.name == "mlflow"
    note(figures, "start until it answers, s", server, server.start_s)
    if server.name != "bare handler":
        note(figures, "memory when started, MB", server, server.rss_mb())
        server.measure_idle()
        note(figures, "CPU when nothing is asked, share of a core", server, server.idle_share)
        client_calls(server, figures, (40 if quick else 100) if slow else (200 if quick else 500))
    raw_calls(server, figures, 2.0 if quick else 5.0)
    if server.name == "bare handler":
        return
    artifacts(server, figures, 20 if quick else 100)
    searches(server, figures, 500 if quick else (1000 if slow and not options.full else 10_000), 5 if slow else 20)
    if server.name == "modelyard" and not quick:
        million_points(server, figures)
        if options.full:
            searches(server, figures, 100_000, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of many")
    parser.add_argument("--full", action="store_true", help="10,000 runs at MLflow too, 100,000 at ours: an hour")
    parser.add_argument("--without-mlflow", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        makers = [servers.bare, servers.modelyard] + ([] if options.without_mlflow else [servers.mlflow])
        for maker in makers:
            server = maker(Path(folder) / maker.__name__)
            try:
                measure(server, figures, options)
            finally:
                server.stop()
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
