"""What a name or value may be, and what clients are told when it is not: MLflow's rules, in its words."""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from modelyard.domain.errors import Invalid

MOST_KEY, MOST_PARAM, MOST_TAG = 250, 6000, 8000
MOST_METRICS, MOST_PARAMS, MOST_TAGS, MOST_ITEMS = 1000, 100, 100, 1000
MOST_EXPERIMENT_NAME, MOST_EXPERIMENT_TAG, MOST_REGISTRY_TAG = 500, 20_000, 100_000
MOST_DATASET = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
MOST_INPUT_TAG_KEY, MOST_INPUT_TAG = 255, 500
_NAME = re.compile(r"^[/\w.\- :]*$")
_RUN_ID = re.compile(r"^[a-zA-Z0-9][\w\-]{0,255}$")


def refused(path: str, value: Any, why: str = "") -> Invalid:
    """The error for a parameter's value: `Invalid value "a//b" for parameter 'key' supplied: ...`."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))[:1000]
    return Invalid(f"Invalid value {shown} for parameter '{path}' supplied" + (f": {why}" if why else "."))


@lru_cache(maxsize=65_536)
def _acceptable(name: str) -> bool:
    if not _NAME.match(name):
        return False
    norm = posixpath.normpath(name)
    return norm == name and norm != "." and not norm.startswith(("..", "/"))


def check_name(name: str, path: str) -> None:
    """Raises Invalid for a key that holds odd characters or would climb out of a folder."""
    if _acceptable(name):
        return
    if not _NAME.match(name):
        raise refused(
            path,
            name,
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) "
            "and slashes (/).",
        )
    raise refused(
        path,
        name,
        "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. "
        f"This name would resolve to {posixpath.normpath(name)!r}",
    )


def check_length(what: str, value: str, most: int) -> None:
    if len(value) > most:
        raise Invalid(f"'{what}' exceeds the maximum length of {most} characters")


def check_metric(key: str, time: int, path: str = "") -> None:
    """`path` is where the metric stands in the request, such as `metrics[3]`."""
    if not _acceptable(key):
        check_name(key, f"{path}.name" if path else "name")
    if time < 0:
        raise refused(f"{path}.timestamp" if path else "timestamp", time, "Timestamp must be a nonnegative long")
    if len(key) > MOST_KEY:
        check_length("Metric name", key, MOST_KEY)


def check_metrics(points: Sequence[tuple[str, int]]) -> None:
    """`check_metric` of the (key, time) of a batch's points."""
    fine = {key for key in {key for key, _ in points} if _acceptable(key) and len(key) <= MOST_KEY}
    for index, (key, time) in enumerate(points):
        if time < 0 or key not in fine:
            check_metric(key, time, f"metrics[{index}]")


def checked_param(key: str, value: str, path: str = "") -> str:
    """The value as it is kept: MLflow cuts a long one rather than failing the run that logs it."""
    check_name(key, f"{path}.key" if path else "key")
    check_length("Param key", key, MOST_KEY)
    return value[:MOST_PARAM]


def checked_tag(key: str, value: str, path: str = "") -> str:
    """The value as it is kept, cut like a param's."""
    where = f"{path}.key" if path else "key"
    check_name(key, where)
    check_length(where, key, MOST_KEY)
    return value[:MOST_TAG]


def check_experiment_tag(key: str, value: str) -> None:
    check_name(key, "key")
    check_length("key", key, MOST_KEY)
    check_length("value", value, MOST_EXPERIMENT_TAG)


def check_registry_tag(key: str, value: str) -> None:
    check_name(key, "key")
    check_length("key", key, MOST_KEY)
    check_length("value", value, MOST_REGISTRY_TAG)


def check_dataset(dataset: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Raises Invalid for a field of a dataset, or a tag of its use, that is too long."""
    for field, most in MOST_DATASET.items():
        check_length(field, str(dataset.get(field) or ""), most)
    for key, value in tags.items():
        check_length("key", key, MOST_INPUT_TAG_KEY)
        check_length("value", value, MOST_INPUT_TAG)


def check_run_id(run_id: str) -> None:
    if not _RUN_ID.match(run_id):
        raise refused("run_id", run_id)


def check_batch(metrics: int, params: int, tags: int) -> None:
    """Raises Invalid beyond what one batch may hold."""
    for noun, count, most in (
        ("metrics", metrics, MOST_METRICS),
        ("params", params, MOST_PARAMS),
        ("tags", tags, MOST_TAGS),
        ("metrics, params, and tags", metrics + params + tags, MOST_ITEMS),
    ):
        if count > most:
            raise Invalid(
                f"A batch logging request can contain at most {most} {noun}. Got {count} {noun}. Please split up "
                f"{noun} across multiple requests and try again."
            )


def check_unique_params(keys: Iterable[str]) -> None:
    seen: set[str] = set()
    twice = [key for key in keys if key in seen or seen.add(key)]
    if twice:
        raise Invalid(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one "
            "param value per param key."
        )
