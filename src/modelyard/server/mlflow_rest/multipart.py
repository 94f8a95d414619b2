"""MLflow's uploads in parts, which a server that keeps the artifacts itself does not need."""

from typing import Any

from modelyard.domain.permissions import Permission
from modelyard.server.mlflow_rest.errors import NotImplementedHere
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route


async def refuse(call: Call) -> Any:
    """Clients know this message and send the file in one request, which is streamed in constant memory."""
    raise NotImplementedHere("Multipart upload is not supported for the current artifact repository")


async def refuse_download(call: Call) -> Any:
    raise NotImplementedHere("Multipart download is not supported for the current artifact repository")


R, W = Permission.RUNS_READ, Permission.RUNS_WRITE
ROUTES: list[Route] = [
    *pair("POST", "mlflow-artifacts/mpu/create/{path:path}", W, refuse),
    *pair("POST", "mlflow-artifacts/mpu/complete/{path:path}", W, refuse),
    *pair("POST", "mlflow-artifacts/mpu/abort/{path:path}", W, refuse),
    *pair("GET", "mlflow-artifacts/presigned/{path:path}", R, refuse_download),
]
