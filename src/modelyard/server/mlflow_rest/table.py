"""How MLflow's paths enter our route table: each under /api and again under /ajax-api."""

from typing import Any

from modelyard.domain.permissions import Permission
from modelyard.server.routes import BriefHandler, Handler, Route, awaited

MOST_BODY = 16 << 20


def pair(
    method: str,
    path: str,
    permission: Permission,
    handler: Handler,
    version: str = "2.0",
    stream: bool = False,
    brief: BriefHandler | None = None,
    body: Any = None,
) -> list[Route]:
    """The two routes of one MLflow call, such as `pair("POST", "mlflow/runs/create", ...)`."""
    body = body or (dict[str, Any] if method in ("POST", "PATCH", "PUT", "DELETE") and not stream else None)
    return [
        Route(
            method,
            f"/{root}/{version}/{path}",
            permission,
            handler,
            body=body,
            max_body=MOST_BODY,
            stream=stream,
            brief=brief,
        )
        for root in ("api", "ajax-api")
    ]


def brief_pair(method: str, path: str, permission: Permission, brief: BriefHandler, body: Any = None) -> list[Route]:
    """`pair` of a call that is one brief work."""
    return pair(method, path, permission, awaited(brief, method), brief=brief, body=body)
