"""A bucket of an S3-compatible store, opened as every S3 tool opens one: by what the environment says."""

import os
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from modelyard.domain.errors import MissingExtra


def check_installed(what: str) -> None:
    """Raises MissingExtra without the package that reads buckets. what: who needs it."""
    if find_spec("obstore") is None:
        raise MissingExtra("obstore", "s3", what)


def words(error: Exception) -> str:
    """The first line of an error; obstore's go on with the whole request."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def open_bucket(name: str, prefix: str | None = None, *, what: str) -> Any:
    """Obstore's store of a bucket. what: who needs it, for the message of MissingExtra.

    Credentials, region and endpoint are read from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_REGION, AWS_ENDPOINT_URL, roles).
    """
    check_installed(what)
    from obstore.store import S3Store  # late: only S3 needs it

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if endpoint and endpoint.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    return S3Store(name, prefix=prefix, **options)


def kept_bucket(name: str, *, what: str) -> Any:
    """The same, opened anew only when the store's credentials or address changed."""
    return _opened(name, what, tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))


@lru_cache(maxsize=8)
def _opened(name: str, what: str, _: tuple[tuple[str, str], ...]) -> Any:
    return open_bucket(name, what=what)
