"""What is measured of a deployment under traffic: counters, predictions, rewards, a Prometheus query."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.deliver.deployments import places, running
from modelyard.deliver.deployments.judgement import Observed, observed
from modelyard.deliver.serving import probe
from modelyard.domain.environments import Prometheus
from modelyard.kit.processes import without_secrets

PATIENCE_S = 30.0
PIECE = 1 << 16
ERROR = re.compile(r"[\w.]*(Error|Exception)\b|The gateway cannot ")


class Unmeasured(Exception):
    """The measurement itself failed: says nothing of the deployment, and is counted apart from its errors."""


@dataclass(frozen=True)
class Traffic:
    """One reading of an environment's gateway and supervisor; `far`: what far machines' gateways said last."""

    stats: dict[str, Any] | None
    workers: dict[str, Any] = field(default_factory=dict[str, Any])
    far: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def counters(self, endpoint: str, deployment: str | None) -> dict[str, Any] | None:
        """A deployment's counters since its gateway's start. Raises Unmeasured when the gateway does not answer."""
        if self.stats is None:
            raise Unmeasured("the gateway does not answer")
        return _counted(self.stats, endpoint, deployment)

    def deaths(self, deployment: str) -> dict[str, int]:
        """{worker id: how often it ended since its supervisor started} of a deployment."""
        return {name: said["deaths"] for name, said in self.workers.items() if places.is_worker_of(name, deployment)}

    def baseline(self, endpoint: str, target: str, champion: str | None) -> dict[str, Any]:
        """What a step is measured from. Raises Unmeasured."""
        counters = self.counters(endpoint, target)
        return {
            "since": (self.stats or {}).get("started_at"),
            "target": counters,
            "champion": self.counters(endpoint, champion),
            "deaths": self.deaths(target),
            "far": {
                name: {"target": _counted(stats, endpoint, target), "champion": _counted(stats, endpoint, champion)}
                for name, stats in self.far.items()
            },
        }

    def restarted(self, baseline: dict[str, Any] | None) -> bool:
        """Whether the gateway began to count anew since a baseline."""
        return self.stats is not None and (baseline or {}).get("since") != self.stats["started_at"]

    def since(self, baseline: dict[str, Any] | None, part: str, endpoint: str, deployment: str | None) -> Observed:
        """What a deployment answered since a step's baseline; `part` is target or champion. Raises Unmeasured.

        A far machine that first spoke after the baseline counts from the next step on.
        """
        held = baseline or {}
        found = observed(self.counters(endpoint, deployment), held.get(part))
        for name, before in (held.get("far") or {}).items():
            if name in self.far:
                found = found.with_more(observed(_counted(self.far[name], endpoint, deployment), before[part]))
        return found

    def deaths_since(self, baseline: dict[str, Any] | None, deployment: str) -> int:
        """How often any of a deployment's workers ended; one that counts less than before began to count anew."""
        before = (baseline or {}).get("deaths", {})
        found = 0
        for name, now in self.deaths(deployment).items():
            earlier = before.get(name, 0)
            found += now - earlier if now >= earlier else now
        return found


def _counted(stats: dict[str, Any], endpoint: str, deployment: str | None) -> dict[str, Any] | None:
    """What a gateway counted of a deployment since its start; None when it never had it."""
    held = stats["endpoints"].get(endpoint, {}).get("deployments", {}).get(deployment)
    return None if held is None else {**held, "since": stats["started_at"]}


async def read_traffic(home: Path, environment: str, far: dict[str, dict[str, Any]]) -> Traffic:
    """The gateways' counters and the supervisor's word on its workers."""
    stats = await probe.ask(str(places.admin_socket(home, environment)))
    return Traffic(stats, workers(home, environment), far)


def workers(home: Path, environment: str) -> dict[str, Any]:
    """{worker id: {pid, restarts, deaths, last_exit}} as who runs it last said."""
    return running.observed(places.serving(home, environment))


def last_words(home: Path, worker_id: str) -> str:
    """The last line of a worker's log; empty where there is none."""
    return (_lines(home / "logs" / f"worker-{worker_id}.log") or [""])[-1][:300]


def last_error(log: Path) -> str:
    """The last line of a server's or a gateway's log that names an error, or its last; empty without a log."""
    lines = _lines(log)
    named = [line for line in lines if ERROR.match(line)]
    return (named or lines or [""])[-1].removeprefix("Error: ")[:500]


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return []


async def read_predictions(
    home: Path, environment: str, endpoint: str, model_file: Path, since_ms: int, reward: str | None
) -> dict[str, dict[str, list[float]]]:
    """{deployment: {"predictions": [...], "rewards": [...]}} of the log since a moment, read in another process.

    Raises Unmeasured.
    """
    command = [*(sys.executable, "-m", "modelyard.deliver.deployments.predictions_read"), str(since_ms)]
    command += [str(places.predictions(home, environment, endpoint)), str(model_file), reward or "-"]
    return json.loads(await run_helper(command))


async def look_at_labels(
    home: Path, environment: str, endpoint: str, model_file: Path, since_ms: int, task: str
) -> dict[str, Any]:
    """What is odd about labels that came since a moment, as `labels_told` finds in its process. Raises Unmeasured."""
    command = [sys.executable, "-m", "modelyard.deliver.deployments.labels_told"]
    command += [str(places.predictions(home, environment, endpoint)), str(model_file), str(since_ms), task]
    return json.loads(await run_helper(command))


async def list_predictions(
    home: Path, environment: str, endpoint: str, model_file: Path, since_ms: int, most: int, identity: str
) -> AsyncGenerator[bytes]:
    """The log's rows as JSON Lines, in pieces, read by another process (`predictions_listed`). Raises Unmeasured."""
    command = [sys.executable, "-m", "modelyard.deliver.deployments.predictions_listed"]
    command += [str(places.predictions(home, environment, endpoint)), str(model_file), str(since_ms), str(most)]
    process = await asyncio.create_subprocess_exec(
        *command,
        identity,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=without_secrets(),
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        while piece := await process.stdout.read(PIECE):
            yield piece
        words = (await process.stderr.read()).decode("utf-8", "replace").strip().splitlines()
        if await process.wait() != 0:
            raise Unmeasured(words[-1][:300] if words else f"{command[2]} ended with {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run_helper(command: list[str], patience_s: float = PATIENCE_S) -> bytes:
    """What a helper process of ours prints. Raises Unmeasured with its last words, or when it takes too long."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=without_secrets(),
    )
    try:
        async with asyncio.timeout(patience_s):
            printed, errors = await process.communicate()
    except TimeoutError:
        raise Unmeasured(f"{command[2].rpartition('.')[2]} took longer than {patience_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        words = errors.decode("utf-8", "replace").strip().splitlines()
        raise Unmeasured(words[-1][:300] if words else f"{command[2]} ended with {process.returncode}")
    return printed


async def ask_prometheus(asked: Prometheus, **named: str) -> float | None:
    """The query's value; None when it matches nothing. Raises Unmeasured."""
    return await asyncio.to_thread(_query, asked, named)


def _query(asked: Prometheus, named: dict[str, str]) -> float | None:
    import urllib3  # late: only where a query is declared

    query = asked.query
    for name, value in named.items():
        query = query.replace("{" + name + "}", value)
    try:
        answer = urllib3.request(
            "GET", f"{asked.url.rstrip('/')}/api/v1/query", fields={"query": query}, timeout=5.0, retries=False
        )
        found = answer.json()["data"]["result"] if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as error:
        raise Unmeasured(f"Prometheus at {asked.url} cannot be asked ({type(error).__name__})") from error
    if found is None:
        raise Unmeasured(f"Prometheus at {asked.url} answered {answer.status}")
    try:
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return max(float(item["value"][1]) for item in found)
        return float(found[1]) if found else None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Unmeasured("Prometheus' answer is not a number") from error
