"""What a prediction request may be answered with instead of predictions."""

import msgspec

CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    502: "WORKER_LOST",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "TIMEOUT",
}

MOST_WORDS = 1000
"""Characters of a message; what it names may be as long as a body."""


class BadInput(Exception):
    """The request's body does not fit the model's signature: status 400, message for the caller."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Declined(BadInput):
    """Input that this version does not take while another one may: a missing column, another type or shape, an
    unknown category. Counted for each version; a body that none could read is not.
    """


class BadCell(Declined):
    """One value of a column that does not fit; `row` counts from 0, `said` is what was expected and found."""

    def __init__(self, column: str, row: int, said: str) -> None:
        super().__init__(f"Column {column!r}, row {row}: {said}")
        self.column, self.row, self.said = column, row, said


class Refused(Exception):
    """A request that the gateway answers without asking a worker; `headers` are named with underscores."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


def error_body(path: str, status: int, message: str) -> bytes:
    """The error in the shape of the protocol that the path belongs to: Open Inference's, or MLflow's."""
    message = message if len(message) <= MOST_WORDS else f"{message[:MOST_WORDS]}..."
    if path.startswith(("v2/", "v1/")) or path == "v2":
        return msgspec.json.encode({"error": message})
    return msgspec.json.encode({"error_code": CODES.get(status, "BAD_REQUEST"), "message": message})
