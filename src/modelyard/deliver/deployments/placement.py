"""A placement: what one environment's data plane shall run, without any path; the same here and on a far machine."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.deployments import files, libraries, places
from modelyard.deliver.serving.description import describe
from modelyard.deliver.serving.spec import WorkerSpec
from modelyard.domain import locations
from modelyard.domain.sections import seconds
from modelyard.domain.serving import Queue, Serving
from modelyard.registry.versions import ManifestFile


class Route(msgspec.Struct, frozen=True):
    """`role` is live, previous or next, and `approved` whether the version's approval holds: what a rollback goes by;
    the gateway does not read them.
    """

    deployment: str
    role: str
    weight: float
    approved: bool = True


class Placed(msgspec.Struct, frozen=True):
    """A deployment: which version, by which digests."""

    id: str
    model: str
    version: int
    digest: str
    files: list[ManifestFile]


class PlacedEndpoint(msgspec.Struct, frozen=True):
    """`ray`: the cluster that runs its workers, as whoever places it knows it; None: processes beside the gateway."""

    model: str
    routes: list[Route]
    shadow: list[str] = []
    serving: Serving = Serving()
    task: str = ""
    ray: str | None = None


class Placement(msgspec.Struct, frozen=True):
    """`invokers`, `operators` and `labelers` are {token digest: principal}: who may ask, roll back, send labels.

    others: the digests of people's and programs' other tokens, which are known and may not.
    """

    environment: str
    endpoints: dict[str, PlacedEndpoint]
    deployments: dict[str, Placed]
    invokers: dict[str, str]
    operators: dict[str, str]
    labelers: dict[str, str] = {}
    others: list[str] = []

    def serving(self, deployment: Placed) -> Serving:
        """How a deployment is served: what its model's endpoint declares."""
        found = (item.serving for item in self.endpoints.values() if item.model == deployment.model)
        return next(found, Serving())

    def cluster(self, deployment: Placed) -> str | None:
        """Where a deployment's workers run: `PlacedEndpoint.ray`."""
        return next((item.ray for item in self.endpoints.values() if item.model == deployment.model), None)

    def at(self, cluster: str | None) -> "Placement":
        """The same with all workers at one cluster, or None: all beside the gateway."""
        moved = {name: msgspec.structs.replace(item, ray=cluster) for name, item in self.endpoints.items()}
        return msgspec.structs.replace(self, endpoints=moved)


def write(home: Path, placement: Placement, ready: Callable[[Placed], bool]) -> bool:
    """Replace the data plane's files that differ; whether the routing did.

    A deployment whose folder is not `ready` gets no worker yet.
    """
    environment = placement.environment
    folder = places.serving(home, environment)
    specs = [
        spec
        for item in placement.deployments.values()
        if ready(item)
        for spec in _workers(home, environment, item, placement.serving(item), placement.cluster(item))
    ]
    files.write_if_changed(folder / "desired.json", {"environment": environment, "workers": specs})
    routed = {name: _routed(home, placement, name) for name in placement.endpoints}
    tokens = {"tokens": placement.invokers, "labelers": placement.labelers, "others": placement.others}
    routing = {"environment": environment, **tokens, "endpoints": routed}
    if any("outputs" in endpoint["queue"] for endpoint in routed.values()):
        routing["porter"] = str(places.porter_socket(home, environment))
    changed = files.write_if_changed(folder / "routing.json", routing)
    files.write_if_changed(folder / "operators.json", {"tokens": placement.operators})
    return changed


def _routed(home: Path, placement: Placement, name: str) -> dict[str, Any]:
    endpoint = placement.endpoints[name]
    serving = endpoint.serving
    scale = _scale(serving)
    targets = {
        route.deployment: {
            "deployment": route.deployment,
            "version": placement.deployments[route.deployment].version,
            "role": route.role,
            "weight": route.weight,
            **({} if route.approved else {"approved": False}),
            "sockets": [str(places.worker_socket(home, route.deployment, number)) for number in range(serving.most)],
            **({"scale": scale} if scale else {}),
            **({"columns": _columns(home, placement, route.deployment)} if serving.log.redact else {}),
        }
        for route in endpoint.routes
    }
    shadow = [targets[deployment] for deployment in endpoint.shadow]
    policy: dict[str, Any] = {
        "log": {"folder": str(places.predictions(home, placement.environment, name))},
        "limits": {
            "timeout_s": seconds(serving.timeout),
            "max_body_bytes": serving.max_body_bytes,
            "max_concurrency": serving.max_concurrency,
        },
        "sticky": serving.sticky,
        "queue": {
            "max_requests": serving.queue.max_requests,
            "max_bytes": serving.queue.max_bytes,
            "concurrency": serving.queue.concurrency,
            "timeout_s": seconds(serving.queue.timeout),
            "attempts": serving.queue.attempts,
            "keep_s": seconds(serving.queue.keep),
            **_objects(placement.environment, name, serving.queue),
        },
    }
    if serving.preview is not None:
        header, value = serving.preview.header, serving.preview.value
        coming = [route.deployment for route in endpoint.routes if route.role == "next" and route.weight > 0]
        policy["rules"] = [{"header": header, "value": value, "deployment": coming[0]}] if coming else []
    policy["log"] |= msgspec.to_builtins(msgspec.structs.replace(serving.log, keep=None))
    policy |= {"task": endpoint.task} if endpoint.task else {}
    return {"model": endpoint.model, "routes": list(targets.values()), "shadow": shadow, **policy}


def _columns(home: Path, placement: Placement, deployment: str) -> list[str]:
    """The names of a model's columns in their order; none while its folder is not there."""
    folder = places.models(home, placement.environment) / placement.deployments[deployment].digest
    return _named_inputs(folder) if (folder / "MLmodel").exists() else []


@lru_cache(maxsize=1000)
def _named_inputs(folder: Path) -> list[str]:
    """Of a model's files, which are named by their digest and so never change."""
    inputs = json.loads((describe(folder).get("signature") or {}).get("inputs") or "[]")
    return [item["name"] for item in inputs if "name" in item and item.get("type") != "tensor"]


def _objects(environment: str, name: str, queue: Queue) -> dict[str, Any]:
    """Where the inputs of an endpoint's requests may lie and its answers go; nothing where none may name objects."""
    if not queue.answers:
        return {}
    inputs = [locations.prefix(text) for text in queue.inputs]
    place = f"{queue.answers}{environment}/{name}/"
    return {"inputs": inputs, "outputs": place, "max_input_bytes": queue.max_input_bytes}


def _scale(serving: Serving) -> dict[str, Any] | None:
    """What the gateway scales a version's workers by; None where their number is fixed."""
    held = serving.scale
    if held is None:
        return None
    told = {"min": held.min, "max": held.max, "concurrency": held.concurrency}
    return {**told, "down_after_s": seconds(held.down_after), "idle_s": seconds(held.idle)}


def _workers(home: Path, environment: str, item: Placed, serving: Serving, cluster: str | None) -> list[WorkerSpec]:
    """One entry for each worker of a deployment."""
    own = libraries.chosen(home, environment, item.digest)
    first = files.worker_spec(home, environment, item.id, item.model, item.version, item.digest, item.files)
    return [
        msgspec.structs.replace(
            first,
            id=places.worker_id(item.id, number),
            socket=str(places.worker_socket(home, item.id, number)),
            memory_mb=serving.memory_mb,
            cpus=serving.cpus,
            ray=cluster,
            max_batch_rows=serving.max_batch_rows,
            python=own.python if own else None,
            number=number,
            least=max(1, serving.scale.min) if serving.scale else None,
        )
        for number in range(serving.most)
    ]
