"""What the gateway answers of itself: life, metrics, and all its endpoints as Open Inference models."""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from modelyard.deliver.serving import certificates, describe_page, door, frames, mlflow_deployments, paths, statistics
from modelyard.deliver.serving.errors import Refused, error_body
from modelyard.deliver.serving.frames import RequestMeta
from modelyard.deliver.serving.routing import Endpoint, Routing, Target
from modelyard.deliver.serving.stats import prometheus, workers
from modelyard.deliver.serving.upstream import WorkerLost

if TYPE_CHECKING:
    from modelyard.deliver.serving.exchange import Place
    from modelyard.deliver.serving.gateway import Gateway, Reply

JSON = [(b"content-type", b"application/json")]
PAGE_POLICY = describe_page.policy().encode()
PATIENCE_S = 1.0
PROBES = ("/health", "/ready")
"""Asked by balancers and kubelets by address, without a token; they tell nothing of what is served."""
EXTENSIONS = ["binary_tensor_data", "statistics"]


def alive(gateway: "Gateway", method: str, path: str) -> "Reply":
    """Whether the process lives, and whether it knows where requests go. Raises Refused (405)."""
    door.check_method(method, "GET", path)
    if path == "/health":
        return 200, [(b"content-type", b"text/plain")], b"OK"
    ready = gateway.file.current is not None
    return (200 if ready else 503), [*JSON], msgspec.json.encode({"ready": ready})


async def probed(gateway: "Gateway", place: "Place", target: Target) -> "Reply | None":
    """The answer to a question whether a version serves; None for any other question.

    A worker need not be free to be asked, so that a long prediction is no failed probe, nor is one woken by it.
    """
    model = place.asked.model
    if place.inner not in ("ping", "health") and not (
        model == place.endpoint.model and place.inner.endswith("/ready")
    ):
        return None
    status = 200 if await _answers(gateway, target) else 503
    if model is None:
        return status, [*JSON], b"\n"
    return _json({"name": model, "ready": status == 200}, status)


async def own(gateway: "Gateway", method: str, path: str, routing: Routing) -> "Reply | None":
    """The answer to a path that is the gateway's own; None for any other. Raises Refused (405)."""
    found = None if path.startswith("/endpoints/") else await _told(gateway, path, routing)
    if found is not None:
        door.check_method(method, paths.method_of(path[1:]), path)
    return found


async def _told(gateway: "Gateway", path: str, routing: Routing) -> "Reply | None":
    if path == "/metrics":
        text = prometheus(gateway.exchanges.counters, gateway.exchanges.captures.dropped(), await _waiting(gateway))
        text += gateway.exchanges.metrics() + workers(gateway.fleet.told())
        text += certificates.metrics(gateway.certificates.told()) if gateway.certificates is not None else ""
        return 200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], text.encode()
    if path == "/v2":
        return _json({"name": "modelyard", "version": "2", "extensions": EXTENSIONS})
    if path == "/v2/health/live":
        return _json({"live": True})
    if path == "/v2/health/ready":
        ready = all(entry["state"] == "READY" for entry in await index(gateway, routing, serving=True))
        return _json({"ready": ready, "live": ready}, 200 if ready else 503)
    if path == f"/{paths.ALL_STATS}":
        found = (_statistics(gateway, name, end, end.routes) for name, end in routing.endpoints.items())
        return _json({"model_stats": [entry for entries in await asyncio.gather(*found) for entry in entries]})
    if path == "/v2/repository/index":
        return _json(await index(gateway, routing))
    if paths.REPOSITORY.fullmatch(path[1:]):
        return 400, [*JSON], error_body(path[1:], 400, paths.NO_LOADING)
    if path == "/v1/models":
        return _json({"models": list(routing.endpoints)})
    if path.startswith(mlflow_deployments.BASE):
        found = mlflow_deployments.listing(path, routing)
        return None if found is None else _json(found)
    return None


async def counted(gateway: "Gateway", place: "Place", targets: tuple[Target, ...]) -> "Reply":
    """The statistics of an endpoint's versions. Raises Refused (404, 504)."""
    if place.asked.model not in (None, place.endpoint.model):
        raise Refused(404, f"There is nothing at {place.inner[:200]!r}.")
    return _json({"model_stats": await _statistics(gateway, place.endpoint.model, place.endpoint, targets)})


async def _statistics(
    gateway: "Gateway", name: str, endpoint: Endpoint, targets: tuple[Target, ...]
) -> list[statistics.Shown]:
    """What the workers of each version counted together since they started; nothing of a version without any.

    Raises Refused (504): a sum that lacks a worker would fall.
    """
    deadline = asyncio.get_running_loop().time() + endpoint.limits.timeout_s

    async def of_worker(socket: str, meta: bytes) -> list[statistics.Shown]:
        try:
            answer = await gateway.dispatcher.pool.at(socket).ask(frames.REQUEST, meta, b"", deadline)
        except WorkerLost:  # nobody is there, and none is woken to be asked
            return []
        return msgspec.json.decode(answer.body)["model_stats"]

    found: list[statistics.Shown] = []
    for target in targets:
        path = f"v2/models/{endpoint.model}/versions/{target.version}/stats"
        meta = msgspec.json.encode(RequestMeta(path))
        try:
            told = await asyncio.gather(*(of_worker(socket, meta) for socket in target.sockets))
        except TimeoutError:
            raise Refused(504, f"A worker of v{target.version} does not tell its statistics in time.") from None
        entries = [entry for entries in told for entry in entries]
        found += [{**statistics.merged(entries), "name": name}] if entries else []
    return found


async def _waiting(gateway: "Gateway") -> dict[str, int]:
    """Nothing while the queue's disk does not answer: the other figures are wanted all the more then."""
    try:
        return await gateway.waiting_lengths()
    except Refused:
        return {}


async def index(gateway: "Gateway", routing: Routing, *, serving: bool = False) -> list[dict[str, str]]:
    """Every endpoint's versions and whether they answer; `serving`: those alone that have traffic."""
    placed = [
        (name, target)
        for name, endpoint in routing.endpoints.items()
        for target in endpoint.routes
        if target.weight > 0 or not serving
    ]
    states = await asyncio.gather(*(_answers(gateway, target) for _, target in placed))
    return [
        {
            "name": name,
            "version": str(target.version),
            "state": "READY" if ready else "UNAVAILABLE",
            "reason": "" if ready else "no worker answers",
        }
        for (name, target), ready in zip(placed, states, strict=True)
    ]


async def _answers(gateway: "Gateway", target: Target) -> bool:
    """Whether a version's worker is there; one that is silent is busy, until the circuit breaker closes it off."""
    if not target.sockets:
        return False
    if gateway.fleet.asleep(target.deployment):  # the next request wakes it
        return True
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    upstream = gateway.dispatcher.pool.of(target.sockets)
    try:
        await upstream.ask(frames.PING, b"", b"", deadline)
    except WorkerLost:
        return False
    except TimeoutError:
        return upstream.open_until == 0.0
    return True


def _json(content: object, status: int = 200) -> "Reply":
    return status, [*JSON], msgspec.json.encode(content)
