"""Objects of S3-compatible stores by their addresses, and which prefix an address lies below."""

import re

LOCATION = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9])(/(?P<key>[^\x00-\x1f\x7f]*))?")
MOST = 1024
"""Characters of an address."""


def split(location: str) -> tuple[str, str] | None:
    """(bucket, key) of `s3://bucket/key`; None for what names no object plainly, such as a key with `..` in it."""
    found = LOCATION.fullmatch(location) if len(location) <= MOST else None
    if found is None or not set((found["key"] or "").split("/")).isdisjoint(("", ".", "..")):
        return None
    return found["bucket"], found["key"]


def prefix(text: str) -> str | None:
    """A bucket or a folder of one, with a slash at its end; None for what is neither."""
    whole = f"{text.rstrip('/')}/"
    return whole if split(f"{whole}x") is not None else None


def below(location: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a plain address lies below one of them, as `prefix` gives them."""
    return split(location) is not None and location.startswith(prefixes)
