"""`[models.<name>.serving]`: how many workers serve a version, within which limits, and what is logged of it."""

from typing import Annotated, Literal

import msgspec

from modelyard.domain.errors import ConfigError
from modelyard.domain.sections import seconds


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Logged(_Section, frozen=True):
    """What the prediction log takes: a share, columns left out, and whether an answer waits for the disk."""

    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    redact: tuple[str, ...] = ()
    capture: Literal["buffered", "durable"] = "buffered"


class Serving(_Section, frozen=True):
    """Workers of a version, their memory, the endpoint's limits; `sticky` names the header that is a key."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    memory_mb: Annotated[int, msgspec.Meta(ge=64)] | None = None
    timeout: str = "60s"
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1)] = 6_291_456
    max_concurrency: Annotated[int, msgspec.Meta(ge=1)] = 256
    max_batch_rows: Annotated[int, msgspec.Meta(ge=1)] = 4096
    sticky: str | None = None
    log: Logged = Logged()


def check(where: str, serving: Serving) -> None:
    """Raise ConfigError for a duration that is none."""
    try:
        if seconds(serving.timeout) > 0:
            return
    except ConfigError as error:
        raise ConfigError(f"{where}.timeout: {error.message}", remedy=error.remedy) from error
    raise ConfigError(f"{where}.timeout is {serving.timeout}.", remedy="Give more than nothing, such as '60s'.")
