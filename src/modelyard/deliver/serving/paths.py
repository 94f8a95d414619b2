"""What a path below an endpoint asks for: the protocols side by side on one address."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal["score", "infer", "predict_v1", "typed", "later", "describe", "unknown"]
NAME = r"(?P<model>[^/]{1,250})"
INFER = re.compile(rf"v2/models/{NAME}(/versions/(?P<version>[^/]{{1,20}}))?/infer")
PREDICT_V1 = re.compile(rf"v1/models/{NAME}:predict")
MODEL = re.compile(rf"v[12]/models/{NAME}(/versions/(?P<version>[^/]{{1,20}}))?(/(?P<what>ready|stats))?")
ALL_STATS = "v2/models/stats"
DESCRIBED = frozenset(
    (
        *("ping", "health", "version", "openapi.json", "docs", "v2", "v2/health/live", "v2/health/ready"),
        *("v2/repository/index", "v1/models"),
    )
)
REPOSITORY = re.compile(rf"v2/repository/models/{NAME}/(load|unload)")
MOST_PATH = 2000
NO_LOADING = "Versions are loaded and unloaded by deploying them."


@dataclass(frozen=True, slots=True)
class Asked:
    """`model` and `version` are None where the path names none; what: `ready` or `stats` of a model."""

    kind: Kind
    model: str | None = None
    version: str | None = None
    what: str | None = None

    @property
    def counts(self) -> bool:
        """Whether it asks for the statistics of a model's versions."""
        return self.what == "stats"

    @property
    def predicts(self) -> bool:
        return self.kind not in ("later", "describe", "unknown")


@lru_cache(maxsize=4096)
def resolve(inner: str) -> Asked:
    """What is asked at a path relative to its endpoint."""
    if inner == "invocations":
        return Asked("score")
    if inner == "async-invocations":
        return Asked("later")
    if inner == "predict":
        return Asked("typed")
    if found := INFER.fullmatch(inner):
        return Asked("infer", found["model"], found["version"])
    if found := PREDICT_V1.fullmatch(inner):
        return Asked("predict_v1", found["model"])
    if inner == ALL_STATS:
        return Asked("describe", what="stats")
    if inner in DESCRIBED or REPOSITORY.fullmatch(inner):
        return Asked("describe")
    if found := MODEL.fullmatch(inner):
        return Asked("describe", found["model"], found["version"], found["what"])
    return Asked("unknown")


def method_of(inner: str) -> str:
    """The one method that a path takes."""
    asked = resolve(inner)
    changes = asked.predicts or asked.kind == "later" or inner.startswith("v2/repository/")
    return "POST" if changes else "GET"
