"""How MLflow's paths enter our route table: each under /api and again under /ajax-api."""

from typing import Any

from modelyard.domain.permissions import Permission
from modelyard.server.routes import Handler, Route

MOST_BODY = 16 << 20


def pair(
    method: str, path: str, permission: Permission, handler: Handler, version: str = "2.0", stream: bool = False
) -> list[Route]:
    """The two routes of one MLflow call, such as `pair("POST", "mlflow/runs/create", ...)`."""
    body: Any = dict[str, Any] if method in ("POST", "PATCH", "PUT", "DELETE") and not stream else None
    return [
        Route(method, f"/{root}/{version}/{path}", permission, handler, body=body, max_body=MOST_BODY, stream=stream)
        for root in ("api", "ajax-api")
    ]
