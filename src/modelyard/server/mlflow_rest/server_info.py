"""What MLflow's clients and its web pages ask a server about itself."""

from typing import Any

from starlette.responses import Response

from modelyard.domain.permissions import Permission
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route

PROTOCOL = "3.17.2"
"""The release of MLflow whose protocol this server speaks."""


async def server_info(call: Call) -> Any:
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }


async def version(call: Call) -> Any:
    return Response(PROTOCOL, media_type="text/plain")


async def current_user(call: Call) -> Any:
    return {"user": {"username": call.principal.name, "is_admin": "admin" in call.principal.roles}}


async def telemetry(call: Call) -> Any:
    """None is collected here."""
    return {"disable_ui_telemetry": True, "disable_ui_events": []}


async def swallow(call: Call) -> Any:
    return {"status": "disabled"}


P, S = Permission.PUBLIC, Permission.SIGNED_IN
ROUTES: list[Route] = [
    *pair("GET", "mlflow/server-info", P, server_info, version="3.0"),
    *pair("GET", "mlflow/users/current", S, current_user),
    *pair("GET", "mlflow/ui-telemetry", S, telemetry, version="3.0"),
    *pair("POST", "mlflow/ui-telemetry", S, swallow, version="3.0"),
    Route("GET", "/version", P, version, summary="the MLflow release whose protocol is spoken"),
]
