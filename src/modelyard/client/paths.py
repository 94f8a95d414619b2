"""Paths of the native API; apart from the client, so that naming one loads no HTTP library."""

from urllib.parse import quote


def path(*parts: str | int) -> str:
    """A native API path with every part quoted: `path("models", "a/b")` is `/api/v1/models/a%2Fb`."""
    return "/api/v1/" + "/".join(quote(str(part), safe="") for part in parts)
