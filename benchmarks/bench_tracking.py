"""Tracking beside `mlflow server`: same client, same machine, same run. Prints a Markdown table.

    make bench-tracking                                        # everything: about 20 minutes
    make bench-tracking BENCH="--only searches --json FILE"    # one part; FILE collects the figures of several
    make bench-tracking BENCH="--write docs/explanation/benchmarks-tracking.md"

Parts: calls, raw, artifacts, searches, searches-100k, memory, syncs, postgresql, models.
`--quick` takes smaller loads.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import raw_load
import tracking_fill
import tracking_servers as servers
import urllib3
from page import write
from tracking_servers import Running, call
from tracking_table import LEAST, Figures, table


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

    mine = time.process_time()
    cpu, wall = cpu_per_call(server, calls := max(5, count // 20), batch)
    mine = (time.process_time() - mine) / (calls + max(3, calls // 20)) * 1000
    note(figures, "log_batch of 1,000: server CPU, ms", server, cpu)
    note(figures, "log_batch of 1,000: CPU of the client itself, ms", server, mine)
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


def raw_batches(server: Running, figures: Figures, seconds: float) -> None:
    """Batches made beforehand: what the server takes when no client is in its way."""
    pool = urllib3.PoolManager()
    run = call(server, pool, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    bodies: list[bytes] = []
    for part in range(200):
        points = [
            {"key": f"k{n % 20}", "value": 0.5 * n, "timestamp": part * 1000 + n, "step": part * 1000 + n}
            for n in range(1000)
        ]
        body = json.dumps({"run_id": run, "metrics": points}).encode()
        bodies.append(raw_load.request("/api/2.0/mlflow/runs/log-batch", body, server.token))
    rate = raw_load.rate(server.url, [lambda number: bodies[number % len(bodies)]], seconds)
    note(figures, "log_batch of 1,000: metrics/s, the server", server, rate * 1000)


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


def database(server: Running) -> Path:
    return server.folder / ("peer.db" if server.name == "mlflow" else ".modelyard/yard.db")


def searches(server: Running, figures: Figures, runs: int, repeats: int) -> None:
    pool = urllib3.PoolManager()
    experiment = call(server, pool, "POST", "experiments/create", {"name": f"search-{runs}"})["experiment_id"]
    getattr(tracking_fill, server.name)(database(server), int(experiment), runs)
    call(server, pool, "POST", "runs/search", {"experiment_ids": [experiment], "filter": "params.p4 = '3'"})
    for what, body in SEARCHES.items():
        taken: list[float] = []
        before = server.cpu_s()
        for _ in range(repeats):
            began = time.perf_counter()
            found = call(server, pool, "POST", "runs/search", {"experiment_ids": [experiment], **body})
            taken.append((time.perf_counter() - began) * 1000)
            assert len(found["runs"]) == min(body["max_results"], runs) or "filter" in body
        taken.sort()
        note(figures, f"search {runs:,} runs, {what}: p50 ms", server, taken[len(taken) // 2])
        note(figures, f"search {runs:,} runs, {what}: p95 ms", server, taken[int(len(taken) * 0.95)])
        cpu = (server.cpu_s() - before) / repeats * 1000
        note(figures, f"search {runs:,} runs, {what}: server CPU, ms", server, cpu)


def artifacts(server: Running, figures: Figures, megabytes: int) -> None:
    pool, headers = urllib3.PoolManager(), {"authorization": f"Bearer {server.token}"}
    taken: dict[str, list[float]] = {"up": [], "down": []}
    for number in range(4):
        data = os.urandom(megabytes << 20)
        url = f"{server.url}/api/2.0/mlflow-artifacts/artifacts/0/bench/artifacts/big{number}.bin"
        for what, method, body in (("up", "PUT", data), ("down", "GET", None)):
            began = time.perf_counter()
            answer = pool.request(method, url, body=body, headers=headers, timeout=300)
            taken[what].append(time.perf_counter() - began)
            assert answer.status == 200 and (body or answer.data == data), answer.data[:300]
    for what, times in taken.items():
        note(figures, f"artifact of {megabytes} MB {what}: MB/s", server, megabytes / sorted(times)[1])


def memory(server: Running, figures: Figures) -> None:
    pool = urllib3.PoolManager()
    run = call(server, pool, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    for part in range(1000):
        points = [
            {"key": f"k{n % 10}", "value": n * 0.5, "timestamp": part * 1000 + n, "step": part * 1000 + n}
            for n in range(1000)
        ]
        call(server, pool, "POST", "runs/log-batch", {"run_id": run, "metrics": points})
        if part == 499:
            note(figures, "memory after 500,000 points, MB", server, server.rss_mb())
    note(figures, "memory after 1,000,000 points, MB", server, server.rss_mb())


def syncs(server: Running, figures: Figures) -> None:
    """Of a server that survives a power cut: what one commit group costs the disk, and what many writers share."""
    pool = urllib3.PoolManager()
    run = call(server, pool, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    one = {"run_id": run, "key": "k", "value": 0.5, "timestamp": 1}
    call(server, pool, "POST", "runs/log-metric", {**one, "step": 0})
    with servers.counted_syncs(server) as count:
        for step in range(1, 51):
            call(server, pool, "POST", "runs/log-metric", {**one, "step": step})
    note(figures, "fsyncs a write, one writer", server, count() / 50)

    def maker(connection: int) -> Callable[[int], bytes]:
        def payload(number: int) -> bytes:
            body = json.dumps({**one, "key": f"k{connection}", "step": number}).encode()
            return raw_load.request("/api/2.0/mlflow/runs/log-metric", body, server.token)

        return payload

    with servers.counted_syncs(server) as count:
        rate = raw_load.rate(server.url, [maker(n) for n in range(32)], 3.0)
    note(figures, "fsyncs a write, 32 writers", server, count() / (rate * 3.0))


def models(server: Running, figures: Figures) -> None:
    """The client beside modelyard here, and beside MLflow alone in MLflow's own environment."""
    python = sys.executable if server.name == "modelyard" else servers.peer_python()
    script = str(Path(__file__).with_name("tracking_client.py"))
    done = subprocess.run(
        [python, script, server.url, server.token], stdout=subprocess.PIPE, cwd=server.folder, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    note(figures, "first log_model of an environment, s", server, found["first log_model"])
    note(figures, "log_model of a tiny model, s", server, found["log_model"])
    note(figures, "autologged fit beyond the fit, s", server, found["autologged fit"] - found["fit"])


def on_postgresql(folder: Path, figures: Figures, seconds: float, peers: bool) -> None:
    """Both servers on one real PostgreSQL with its default durability: a flush for each commit."""
    with servers.postgresql() as database:
        makers: list[Callable[[], Running]] = [
            lambda: servers.modelyard(folder / "yard", "--database", f"postgresql://{database()}"),
            lambda: servers.mlflow(folder / "mlflow", f"postgresql+psycopg://{database()}"),
        ]
        for make in makers if peers else makers[:1]:
            with running(make) as server:
                found: Figures = {}
                raw_calls(server, found, seconds)
                for what, by in found.items():
                    figures.setdefault(f"PostgreSQL: {what}", {}).update(by)


@contextlib.contextmanager
def running(make: Callable[[], Running]) -> Iterator[Running]:
    server = make()
    try:
        yield server
    finally:
        server.stop()


def calls(server: Running, figures: Figures, options: argparse.Namespace) -> None:
    note(figures, "start until it answers, s", server, server.start_s)
    note(figures, "memory when started, MB", server, server.rss_mb())
    server.measure_idle(2.0)  # what the start left to do
    server.measure_idle()
    note(figures, "CPU when nothing is asked, share of a core", server, server.idle_share)
    client_calls(server, figures, (40 if options.quick else 100) if server.name == "mlflow" else 400)


def raw(server: Running, figures: Figures, options: argparse.Namespace) -> None:
    raw_calls(server, figures, 2.0 if options.quick else 5.0)
    if server.name not in LEAST:
        raw_batches(server, figures, 2.0 if options.quick else 5.0)


PARTS: dict[str, tuple[tuple[str, ...], Callable[[Running, Figures, argparse.Namespace], None]]] = {
    "calls": (("modelyard", "mlflow"), calls),
    "raw": (("bare", "modelyard", "mlflow"), raw),
    "artifacts": (("plain_copy", "modelyard", "mlflow"), lambda s, f, o: artifacts(s, f, 20 if o.quick else 100)),
    "searches": (("modelyard", "mlflow"), lambda s, f, o: searches(s, f, 10_000, 8 if s.name == "mlflow" else 40)),
    "searches-100k": (("modelyard",), lambda s, f, o: searches(s, f, 100_000, 40)),
    "memory": (("modelyard",), lambda s, f, o: memory(s, f)),
    "syncs": (("modelyard", "mlflow"), lambda s, f, o: syncs(s, f)),
    "models": (("modelyard", "mlflow"), lambda s, f, o: models(s, f)),
}
"""Which servers a part measures, and how; PostgreSQL stands apart, since its servers need a database first."""


def maker_of(name: str, part: str, folder: Path) -> Callable[[], Running]:
    options = ("--durability", "power") if part == "syncs" and name == "modelyard" else ()
    return lambda: getattr(servers, name)(folder, *options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without-mlflow", action="store_true")
    parser.add_argument("--only", default=",".join([*PARTS, "postgresql"]), help="parts, by comma")
    parser.add_argument("--json", type=Path, help="keep the figures here, beside those of parts measured before")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode
    kept = options.json is not None and options.json.exists()
    figures: Figures = json.loads(options.json.read_text()) if kept else {}
    with tempfile.TemporaryDirectory() as name:
        for part in options.only.split(","):
            print(part, file=sys.stderr)
            if part == "postgresql":
                on_postgresql(Path(name) / part, figures, 2.0 if options.quick else 5.0, not options.without_mlflow)
                continue
            for peer in PARTS[part][0]:
                if peer == "mlflow" and options.without_mlflow:
                    continue
                with running(maker_of(peer, part, Path(name) / f"{part}-{peer}")) as server:
                    PARTS[part][1](server, figures, options)
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    if options.write:
        write(options.write, table(figures))


if __name__ == "__main__":
    main()
