"""Our errors in MLflow's shape: {"error_code", "message"}."""

import msgspec
from starlette.responses import Response

from modelyard.domain.errors import ModelyardError
from modelyard.server.routes import NoRoute


class NotImplementedHere(ModelyardError):
    """A part of MLflow's protocol that this server does not have; clients know the code and do without."""

    code = "not_implemented"
    status = 501


CODES: dict[str, str] = {
    "invalid": "INVALID_PARAMETER_VALUE",
    "config": "INVALID_PARAMETER_VALUE",
    "unauthenticated": "UNAUTHENTICATED",
    "forbidden": "PERMISSION_DENIED",
    "not_found": "RESOURCE_DOES_NOT_EXIST",
    "conflict": "INVALID_STATE",
    "already_exists": "RESOURCE_ALREADY_EXISTS",
    "too_large": "BAD_REQUEST",
    "unavailable": "TEMPORARILY_UNAVAILABLE",
    "not_implemented": "NOT_IMPLEMENTED",
}
STATUS: dict[str, int] = {"already_exists": 400, "conflict": 400}
"""Where MLflow answers with another status than ours."""


def mlflow_error(error: ModelyardError) -> Response:
    """The error as MLflow's clients expect it, so that they raise the same exceptions."""
    code = "ENDPOINT_NOT_FOUND" if isinstance(error, NoRoute) else CODES.get(error.code, "INTERNAL_ERROR")
    body = {"error_code": code, "message": str(error)}
    status = STATUS.get(error.code, error.status)
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
