"""`[models.<name>.serving]`: how many workers serve a version, within which limits, and what is logged of it."""

import re
from typing import Annotated, Literal

import msgspec

from modelyard.domain import locations
from modelyard.domain.errors import ConfigError
from modelyard.domain.sections import seconds

HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A field name as RFC 9110 has it."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


Libraries = Literal["auto", "own", "shared"]


class Logged(_Section, frozen=True, omit_defaults=True):
    """What the prediction log takes: a share, columns left out, and whether an answer waits for the disk; how long it
    keeps it, for ever by default.
    """

    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    redact: tuple[str, ...] = ()
    capture: Literal["buffered", "durable"] = "buffered"
    keep: str | None = None


class Queue(_Section, frozen=True, omit_defaults=True):
    """Asynchronous requests: how many may wait, how many are asked at a time, how long each may take, how often it is
    tried, and how long it and its answer are kept.

    inputs: `s3://bucket/folder`s whose objects may be named as a request's input, of at most `max_input_bytes` each;
    outputs: below which answers to such requests are written.
    """

    max_requests: Annotated[int, msgspec.Meta(ge=0)] = 1000
    max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 268_435_456
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    timeout: str = "1h"
    attempts: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3
    keep: str = "24h"
    inputs: tuple[str, ...] = ()
    outputs: str = ""
    max_input_bytes: Annotated[int, msgspec.Meta(ge=1, le=250_000_000)] = 64_000_000

    @property
    def answers(self) -> str:
        """Below what answers are written: `outputs`, else `answers/` in the bucket of the first input, else ''."""
        first = locations.prefix(self.inputs[0]) if self.inputs else None
        given = self.outputs or (f"s3://{first.split('/')[2]}/answers" if first else "")
        return locations.prefix(given) or ""


class Preview(_Section, frozen=True):
    """Requests whose header has this value get the version on its way, while its rollout gives it traffic."""

    header: str
    value: str


class Scale(_Section, frozen=True):
    """Workers of a version by load: between `min` and `max`, so that each has `concurrency` requests under way.

    Fewer after `down_after` of less load; none after `idle` without a request where `min` is 0: the next one waits
    until a worker is up, within `timeout`.
    """

    min: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1
    max: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    concurrency: Annotated[float, msgspec.Meta(gt=0)] = 8.0
    down_after: str = "1m"
    idle: str = "10m"


class Hosting(_Section, frozen=True):
    """Where an endpoint's workers run (`ray`: which cluster), how many a version has and what each takes.

    What is left out is as its environment and its model have it.
    """

    target: Literal["local", "ray"] | None = None
    ray: str | None = None
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    cpus: Annotated[float, msgspec.Meta(ge=0)] | None = None
    memory_mb: Annotated[int, msgspec.Meta(ge=64)] | None = None


class Serving(_Section, frozen=True):
    """Workers of a version, their memory, the endpoint's limits; `sticky` names the header that is a key.

    cpus: what a worker reserves of a Ray cluster's node. libraries: `auto` gives a version an environment of its own
    when what it names differs from what the yard has, `own` always, `shared` never.
    """

    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    cpus: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    memory_mb: Annotated[int, msgspec.Meta(ge=64)] | None = None
    timeout: str = "60s"
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1)] = 6_291_456
    max_concurrency: Annotated[int, msgspec.Meta(ge=1)] = 256
    max_batch_rows: Annotated[int, msgspec.Meta(ge=1)] = 4096
    libraries: Libraries = "auto"
    sticky: str | None = None
    preview: Preview | None = None
    scale: Scale | None = None
    log: Logged = Logged()
    queue: Queue = Queue()

    @property
    def most(self) -> int:
        """How many workers a version may have."""
        return self.scale.max if self.scale else self.workers


def check(where: str, serving: Serving) -> None:
    """Raise ConfigError for a duration that is none, or a preview that no request could ask for."""
    if serving.preview is not None:
        _check_preview(f"{where}.preview", serving.preview)
    if serving.scale is not None:
        check_scale(f"{where}.scale", serving.scale)
        if serving.workers != 1:
            raise ConfigError(f"{where} has both workers and scale.", remedy="Leave workers out.")
    _check_duration(f"{where}.timeout", serving.timeout)
    _check_duration(f"{where}.queue.timeout", serving.queue.timeout)
    _check_duration(f"{where}.queue.keep", serving.queue.keep)
    _check_places(f"{where}.queue", serving.queue)
    if serving.log.keep is not None:
        _check_duration(f"{where}.log.keep", serving.log.keep)


def _check_places(where: str, queue: Queue) -> None:
    named = [("outputs", queue.outputs)] if queue.outputs else []
    for key, text in [*(("inputs", text) for text in queue.inputs), *named]:
        if locations.prefix(text) is None:
            raise ConfigError(
                f"{where}.{key} has {text!r}.", remedy="Give a folder of a bucket: 's3://lake/requests'."
            )


def _check_duration(where: str, text: str) -> None:
    try:
        if seconds(text) > 0:
            return
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", remedy=error.remedy) from error
    raise ConfigError(f"{where} is {text}.", remedy="Give more than nothing, such as '60s'.")


def check_scale(where: str, scale: Scale) -> None:
    """Raise ConfigError, naming the key under `where`, for a duration that is none, or more at least than at most."""
    for key in ("down_after", "idle"):
        _check_duration(f"{where}.{key}", getattr(scale, key))
    if scale.min > scale.max:
        raise ConfigError(f"{where}.min is {scale.min}, above max, {scale.max}.", remedy="Give at most max.")


def check_hosting(where: str, hosting: Hosting, scale: Scale | None) -> None:
    """Raise ConfigError, naming the key under `where`, for what could not be carried out."""
    check_cluster(where, hosting.target, hosting.ray)
    if hosting.workers is not None and scale is not None:
        raise ConfigError(f"{where} has both workers and scale.", remedy="Leave workers out.")


def check_cluster(where: str, target: str | None, address: str | None) -> None:
    """Raise ConfigError for a cluster that is not asked for, or for its door for clients from elsewhere."""
    if address and target != "ray":
        raise ConfigError(f"{where}.ray without target = 'ray'.", remedy="Add target = 'ray', or leave it out.")
    if address and address.startswith("ray://"):
        raise ConfigError(
            f"{where}.ray is {address!r}, the door for clients from elsewhere.",
            remedy="Give the address for machines of the cluster, such as '10.0.0.5:6379'.",
        )


def _check_preview(where: str, preview: Preview) -> None:
    if not HEADER.fullmatch(preview.header):
        raise ConfigError(
            f"{where}.header {preview.header!r} is no header's name.", remedy="Give one like 'x-preview'."
        )
    if preview.header.lower() in ("authorization", "cookie") or preview.header.lower().startswith("x-modelyard-"):
        raise ConfigError(
            f"{where}.header {preview.header!r} has a meaning already.", remedy="Give another, like 'x-preview'."
        )
    if not preview.value or not preview.value.isascii() or not preview.value.isprintable():
        raise ConfigError(
            f"{where}.value {preview.value!r} fits in no header.", remedy="Give plain letters and digits."
        )
