"""What bench_serving measures: pairs of servers in turns, and what a switch, a log, a shadow or a start costs."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import serving_servers as servers
import uvloop
from serving_load import Result, cpu_s, drive, resident_mb
from serving_servers import Model, Server, running, write_routing

CELLS = {"1x1": (1, 1), "1x32": (1, 32), "100x32": (100, 32)}
"""Rows of a request, and connections."""
BODIES = 64
LOG_PAIRS, LOG_SECONDS = 24, 3.0
"""What the log costs is less than a window differs from the next: many pairs, their median."""
QUARTILES = (0.25, 0.5, 0.75)
Cells = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Options:
    seconds: float
    turns: int
    home: Path


def requests(server: Server, rows: int) -> list[bytes]:
    """Requests of which no two are alike."""
    random = np.random.default_rng(1)
    return [server.request(random.normal(size=(rows, 20)).round(6)) for _ in range(BODIES)]


def measure(server: Server, rows: int, connections: int, seconds: float) -> Result:
    asked = requests(server, rows)
    uvloop.run(drive(server.port, asked, connections, 0.3))
    before = cpu_s(server.pids)
    result = uvloop.run(drive(server.port, asked, connections, seconds))
    result.cpu_us = (cpu_s(server.pids) - before) / max(1, len(result.latencies)) * 1e6
    return result


def figures(results: list[Result]) -> dict[str, float]:
    """The medians of several turns."""
    found = {
        "rate": [result.rate for result in results],
        "p50": [result.quantile(0.5) for result in results],
        "p99": [result.quantile(0.99) for result in results],
        "cpu": [result.cpu_us for result in results],
    }
    return {name: float(median(values)) for name, values in found.items()} | {
        "failed": float(sum(result.failed for result in results))
    }


def pair(model: Model, name: str, options: Options) -> dict[str, Cells]:
    """Ours and a peer, both started, measured in turns. Raises RuntimeError when the peer does not start."""
    found: dict[str, Cells] = {}
    with contextlib.ExitStack() as stack:
        pair = {
            "modelyard": stack.enter_context(running(servers.ours([model], options.home))),
            name: stack.enter_context(running(servers.peer(name, model, options.home))),
        }
        for cell, (rows, connections) in CELLS.items():
            results: dict[str, list[Result]] = {key: [] for key in pair}
            for _ in range(options.turns):
                for key, server in pair.items():
                    results[key].append(measure(server, rows, connections, options.seconds))
            for key in pair:
                found.setdefault(key, {})[cell] = figures(results[key])
        for key, server in pair.items():
            found[key]["memory"] = {"all": resident_mb(server.pids), "front": resident_mb(server.pids[-1:])}
    return found


def alternating(model: Model, seconds: float, pairs: int, home: Path, **routing: Any) -> dict[str, list[Result]]:
    """One server with what `routing` asks for, and without, in pairs of windows of which the first is either."""
    results: dict[str, list[Result]] = {"with": [], "without": []}
    given = {"with": routing, "without": {name: type(value)() for name, value in routing.items()}}
    with running(servers.ours([model, model], home)) as server:
        for pair in range(pairs):
            for key in list(given)[:: 1 if pair % 2 else -1]:
                write_routing(server, {1: 1.0}, **given[key])
                time.sleep(0.2)  # longer than the gateway takes to see it
                results[key].append(measure(server, 1, 32, seconds))
    return results


def log(model: Model, options: Options) -> dict[str, Cells]:
    """Beside the medians, the median over the pairs of what the log takes of the requests/s, and adds in CPU."""
    found = alternating(model, LOG_SECONDS, LOG_PAIRS, options.home, log=True)
    pairs = list(zip(found["with"], found["without"], strict=True))
    shares = {
        "rate": [1 - logged.rate / bare.rate for logged, bare in pairs],
        "cpu": [logged.cpu_us / bare.cpu_us - 1 for logged, bare in pairs],
    }
    told = {name: float(median(values)) for name, values in shares.items()}
    for name, values in shares.items():
        told[f"{name} low"], _, told[f"{name} high"] = (float(value) for value in np.quantile(values, QUARTILES))
    return {key: {"1x32": figures(results)} for key, results in found.items()} | {"share": {"1x32": told}}


def shadow(model: Model, options: Options) -> dict[str, Cells]:
    """All requests mirrored to a second worker, the log on in both cases."""
    found = alternating(model, options.seconds, options.turns * 2, options.home, shadow=2)
    return {key: {"1x32": figures(results)} for key, results in found.items()}


def switch(model: Model, options: Options, rate: int = 2000, seconds: float = 8.0) -> dict[str, Cells]:
    """Three switches at `rate` requests/s: failures, and the p99 within 200 ms of a switch and away from it."""
    with running(servers.ours([model, model], options.home)) as server:
        time.sleep(1.0)
        found, flips = uvloop.run(_switching(server, rate, seconds))
    near = [took for started, took, _ in found if any(-0.1 < started - flip < 0.2 for flip in flips)]
    away = [took for started, took, _ in found if not any(-0.1 < started - flip < 0.2 for flip in flips)]
    cell = {"requests": float(len(found)), "failed": float(sum(status != 200 for *_, status in found))}
    cell |= {"rate": len(found) / seconds, "p99 near": float(np.quantile(near, 0.99))}
    return {"modelyard": {"switch": cell | {"p99 away": float(np.quantile(away, 0.99))}}}


async def _switching(server: Server, rate: int, seconds: float) -> tuple[list[tuple[float, float, int]], list[float]]:
    asked = requests(server, 1)
    found: list[tuple[float, float, int]] = []
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(32)]
    end = time.perf_counter() + seconds
    flips: list[float] = []

    async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        due = time.perf_counter() + number / rate
        while due < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            started = time.perf_counter()
            writer.write(asked[number % BODIES])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            await reader.readexactly(length)
            found.append((started, (time.perf_counter() - started) * 1000, int(head[9:12])))
            due += len(connections) / rate

    async def flipper() -> None:
        for turn in range(3):
            await asyncio.sleep(seconds / 4)
            write_routing(server, {2 - turn % 2: 1.0})
            flips.append(time.perf_counter())

    await asyncio.gather(flipper(), *(caller(*one, number) for number, one in enumerate(connections)))
    return found, flips


def cold(model: Model, options: Options) -> dict[str, Cells]:
    """Seconds from a worker's start to its socket, beside importing what the model needs to be read."""
    module = {"logistic": "sklearn.linear_model", "boosting": "sklearn.ensemble"}[model.name]
    taken: dict[str, list[float]] = {"worker": [], "import": []}
    for _ in range(options.turns * 3):
        folder = options.home / "cold"
        folder.mkdir()
        started = time.perf_counter()
        process = servers.worker(model, 1, folder, folder)
        while not (folder / "1.sock").exists() and process.poll() is None:
            time.sleep(0.002)
        taken["worker"].append(time.perf_counter() - started)
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import numpy, skops.io, {module}"], check=True)
        taken["import"].append(time.perf_counter() - started)
    return {key: {"cold": {"s": median(values)}} for key, values in taken.items()}


def memory(model: Model, options: Options) -> dict[str, Cells]:
    """The gateway's memory under load, with 1,000 idle connections and with slow callers besides."""
    with running(servers.ours([model], options.home)) as server:
        cell = uvloop.run(_loaded(server, max(options.seconds * 5, 10.0)))
    return {"modelyard": {"memory": cell}}


async def _loaded(server: Server, seconds: float) -> dict[str, float]:
    asked = requests(server, 1)
    gateway = server.pids[-1:]
    cell = {"started": resident_mb(gateway)}
    first = await drive(server.port, asked, 32, seconds)
    cell["after load"] = resident_mb(gateway)
    idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(1000)]
    slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
    for _, writer in slow:
        writer.write(asked[0][:-20])  # the end of the body does not come
    cell["idle and slow"] = resident_mb(gateway)
    second = await drive(server.port, asked, 32, seconds)
    cell["after more load"] = resident_mb(gateway)
    cell |= {"rate alone": first.rate, "rate beside": second.rate, "failed": float(first.failed + second.failed)}
    cell["requests"] = float(len(first.latencies) + len(second.latencies))
    for _, writer in (*idle, *slow):
        writer.close()
    return cell
