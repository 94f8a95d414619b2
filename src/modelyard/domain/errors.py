"""Everything that modelyard raises on purpose.

    ModelyardError
    ├── Invalid              400  the request or file is wrong; says which field and what is allowed
    │   └── ConfigError      400  modelyard.toml: names file, key, what was found, what is allowed
    ├── Unauthenticated      401
    ├── Forbidden            403
    ├── NotFound             404
    ├── Conflict             409  the state does not allow it now
    │   └── AlreadyExists    409
    ├── TooLarge             413
    ├── MissingExtra         500  an optional dependency is absent; says the install command
    ├── StepFailed           500  a pipeline step raised
    └── Unavailable          503  try again later

One base class for each decision that a caller makes; `code` is the stable machine-readable name, `remedy`
tells the person what to do next.
"""

from typing import Any, ClassVar


class ModelyardError(Exception):
    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, remedy: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def as_wire(self) -> dict[str, Any]:
        """The error's JSON on the native API: {"error": {code, message, remedy, fields}}."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.remedy:
            body["remedy"] = self.remedy
        if self.fields:
            body["fields"] = self.fields
        return {"error": body}


class Invalid(ModelyardError):
    code = "invalid"
    status = 400


class ConfigError(Invalid):
    code = "config"


class Unauthenticated(ModelyardError):
    code = "unauthenticated"
    status = 401


class Forbidden(ModelyardError):
    code = "forbidden"
    status = 403


class NotFound(ModelyardError):
    code = "not_found"
    status = 404


class Conflict(ModelyardError):
    code = "conflict"
    status = 409


class AlreadyExists(Conflict):
    code = "already_exists"


class TooLarge(ModelyardError):
    code = "too_large"
    status = 413


class MissingExtra(ModelyardError):
    code = "missing_extra"

    def __init__(self, package: str, extra: str, purpose: str, beside: str = "") -> None:
        """`beside`: what has to be installed with the extra, as pip takes it."""
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed.",
            remedy=f"Install it: pip install 'modelyard[{extra}]' {beside}".rstrip(),
        )


class StepFailed(ModelyardError):
    code = "step_failed"


class Unavailable(ModelyardError):
    code = "unavailable"
    status = 503


def _tree(root: type[ModelyardError]) -> dict[str, type[ModelyardError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found = _tree(child) | found  # one without a code of its own stands for no answer
    return found


def from_wire(status: int, body: Any) -> ModelyardError:
    """The exception that an error answer of the native API stands for."""
    error = body.get("error", {}) if isinstance(body, dict) else {}
    kind = _tree(ModelyardError).get(error.get("code", ""), ModelyardError)
    spoken = body.get("message") if isinstance(body, dict) else None  # MLflow's shape
    message = error.get("message") or spoken or f"The server answered with status {status}."
    failure = ModelyardError.__new__(kind)
    ModelyardError.__init__(failure, message, remedy=error.get("remedy", ""), **error.get("fields", {}))
    return failure
