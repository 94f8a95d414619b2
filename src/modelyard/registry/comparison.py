"""Versions side by side: which is better, by how much, and whether that is more than noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from modelyard.domain.errors import Invalid
from modelyard.domain.metrics import lower_is_better
from modelyard.kit.scores import Z95
from modelyard.registry import evidence, versions
from modelyard.registry.versions import Version

LATENCY = ("latency_p50_ms", "latency_p99_ms")
RATIO = "a ratio of the lowest to the highest group has no error here: compare the groups"
UNKNOWN = {
    "latency_p99_ms": "60 calls were timed, too few for the spread of their slowest",
    "demographic_parity_ratio": RATIO,
    "equal_opportunity_ratio": RATIO,
    "accuracy_ratio": RATIO,
    "mae_ratio": RATIO,
}
"""Why a metric that every evaluation has comes without an uncertainty."""
Content = dict[str, Any]
Paired = Mapping[int, Mapping[str, Any]]
"""{version: what `registry.paired` found of it against the first version}."""


@dataclass(frozen=True)
class Side:
    """A version as it is compared: with its newest evaluation."""

    version: Version
    content: Content
    size: int


def sides(conn: Connection, name: str, references: list[str]) -> list[Side]:
    """The named versions. Raises NotFound, and Invalid for fewer than two."""
    found = [versions.resolve(conn, name, reference) for reference in dict.fromkeys(references)]
    found = list({version.version: version for version in found}.values())
    if len(found) < 2:
        raise Invalid(
            "A comparison needs two or more different versions.", remedy="Name them: modelyard compare NAME 1 2"
        )
    return [
        Side(
            version,
            evidence.evaluation(conn, name, version.version) or {},
            sum(file.size for file in versions.files(conn, name, version.version)),
        )
        for version in found
    ]


def same_rows(first: Side, other: Side) -> bool:
    """Whether both stored their predictions on the same data, so that rows can be paired; of rankings and forecasts
    rows do not count alone, and only the evaluation compares them.
    """
    if first.content.get("how", {}).get("task") in ("ranking", "forecasting"):
        return False
    data = first.content.get("dataset")
    held = first.content.get("reference") and other.content.get("reference")
    return bool(data and held) and other.content.get("dataset") == data


def compare(found: list[Side], primary: str = "", paired: Paired | None = None) -> dict[str, Any]:
    """Everything about the versions, each compared with the first.

    A difference is "beyond noise" when a paired interval (of predictions stored on the same rows, or of evidence that
    compared with exactly this version) excludes zero, or else when it exceeds 1.96 joint standard errors on the same
    data; otherwise nothing is claimed.
    """
    first = found[0]
    names = sorted({metric for side in found for metric in side.content.get("metrics", {})})
    rows = [_metric(metric, found, paired or {}) for metric in names]
    datasets = [side.content.get("dataset") for side in found]
    codes = [side.version.lineage.get("code", {}) for side in found]
    primary = primary if primary in names else _usual(names)
    return {
        "model": first.version.model,
        "versions": [side.version.version for side in found],
        "aliases": [side.version.aliases for side in found],
        "same_data": datasets[0] is not None and len(set(datasets)) == 1,
        "primary_metric": primary,
        "verdicts": [_verdict(primary, rows, found, index) for index in range(1, len(found))],
        "metrics": rows,
        "slices": _slices(primary, found),
        "params": _table("param", [side.version.lineage.get("params", {}) for side in found]),
        "datasets": datasets,
        "rows": [side.content.get("rows") for side in found],
        "code": codes,
        "code_differs": [code != codes[0] for code in codes],
        "size_bytes": [side.size for side in found],
        "latency_ms": {name: [side.content.get("metrics", {}).get(name) for side in found] for name in LATENCY},
    }


def _metric(metric: str, found: list[Side], paired: Paired) -> dict[str, Any]:
    return {
        "metric": metric,
        "lower_is_better": lower_is_better(metric),
        "values": [side.content.get("metrics", {}).get(metric) for side in found],
        "standard_errors": [side.content.get("standard_errors", {}).get(metric) for side in found],
        "differences": [
            _difference(metric, found[0], other, paired.get(other.version.version, {})) for other in found[1:]
        ],
    }


def _difference(metric: str, base: Side, other: Side, paired: Mapping[str, Any]) -> dict[str, Any] | None:
    before, after = (side.content.get("metrics", {}).get(metric) for side in (base, other))
    if before is None or after is None:
        return None
    value, low, high, how = _interval(metric, base, other, paired, after - before)
    beyond = None if low is None or high is None else not low <= 0 <= high
    better = "neither" if value == 0 else ("second" if (value < 0) == lower_is_better(metric) else "first")
    return {"value": value, "low": low, "high": high, "beyond_noise": beyond, "better": better, "how": how}


def _interval(
    metric: str, base: Side, other: Side, paired: Mapping[str, Any], plain: float
) -> tuple[float, float | None, float | None, str]:
    """(difference, low, high, how it was found): the strongest that what is stored allows."""
    held = paired.get("differences", {}).get(metric)
    if held:
        return held["value"], held["low"], held["high"], "paired on the same rows"
    measured = _against(metric, other, base.version.version)
    if measured:
        return measured["value"], measured["low"], measured["high"], "paired when it was evaluated"
    turned = _against(metric, base, other.version.version)
    if turned:
        return -turned["value"], -turned["high"], -turned["low"], "paired when it was evaluated"
    errors = [side.content.get("standard_errors", {}).get(metric) for side in (base, other)]
    if errors[0] is None or errors[1] is None:
        return plain, None, None, UNKNOWN.get(metric.partition("/")[0], "no uncertainty is stored")
    margin = Z95 * math.hypot(*errors)
    same = base.content.get("dataset") == other.content.get("dataset")
    how = "joint standard errors" if same else "joint standard errors, on different data"
    return plain, plain - margin, plain + margin, how


def _against(metric: str, side: Side, version: int) -> dict[str, float] | None:
    """The paired difference on the same rows, when the evidence compared with exactly this version."""
    compared = side.content.get("champion") or {}
    return compared.get("difference", {}).get(metric) if compared.get("version") == version else None


def _verdict(primary: str, rows: list[dict[str, Any]], found: list[Side], index: int) -> dict[str, Any]:
    """The comparison in one sentence: which of the two is better by the primary metric, and whether that holds."""
    names = [f"v{found[0].version.version}", f"v{found[index].version.version}"]
    row = next((row for row in rows if row["metric"] == primary), None)
    difference = row["differences"][index - 1] if row else None
    if difference is None:
        said = f"Nothing to compare {names[0]} and {names[1]} by: they share no metric."
        return {"versions": names, "better": None, "beyond_noise": None, "sentence": said}
    size = abs(difference["value"])
    better = {"first": names[0], "second": names[1], "neither": None}[difference["better"]]
    if better is None:
        said = f"{names[0]} and {names[1]} are equal by {primary}."
    else:
        other = names[1] if better == names[0] else names[0]
        said = f"{better} is better than {other} by {size:.4g} {primary}"
        if difference["low"] is None:
            said += "; whether that is more than noise is unknown, no uncertainty is stored."
        else:
            bounds = f"95% interval {difference['low']:+.4g} to {difference['high']:+.4g}, {difference['how']}"
            said += (", more" if difference["beyond_noise"] else ", no more") + f" than noise ({bounds})."
    return {"versions": names, "better": better, "beyond_noise": difference["beyond_noise"], "sentence": said}


def _usual(names: list[str]) -> str:
    """The metric to judge by where the project declares none."""
    for wanted in ("roc_auc", "average_precision", "accuracy", "rmse", "mae", "log_loss"):
        if wanted in names:
            return wanted
    return next((name for name in names if not name.startswith("latency")), "")


def _slices(primary: str, found: list[Side]) -> list[dict[str, Any]]:
    """The primary metric by group, for groups that every version was measured on."""
    tables = [
        {(item["by"], item["value"]): item for item in side.content.get("slices", []) if primary in item["metrics"]}
        for side in found
    ]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    return [
        {
            "by": by,
            "value": value,
            "rows": [table[by, value]["rows"] for table in tables],
            "values": [table[by, value]["metrics"][primary] for table in tables],
        }
        for by, value in shared
    ]


def _table(noun: str, held: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = sorted({name for params in held for name in params})
    rows = [{noun: name, "values": [params.get(name) for params in held]} for name in names]
    return [{**row, "differs": any(value != row["values"][0] for value in row["values"])} for row in rows]
