"""The listing that MLflow's deployments client asks for (`mlflow.deployments.get_deploy_client("http://...")`)."""

from typing import Any

from modelyard.deliver.serving.routing import Endpoint, Routing

BASE = "/api/2.0/endpoints"


def listing(path: str, routing: Routing) -> dict[str, Any] | None:
    """What is at a path below BASE: all endpoints, or one; None where there is nothing."""
    name = path.removeprefix(BASE).strip("/")
    if not name:
        return {"endpoints": [_shown(*item) for item in routing.endpoints.items()]}
    return _shown(name, routing.endpoints[name]) if name in routing.endpoints else None


def _shown(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": name,
        "endpoint_type": "model/v1/invocations",
        "model": {"name": endpoint.model, "provider": "modelyard"},
        "endpoint_url": f"/endpoints/{name}/invocations",
        "limit": None,
    }
