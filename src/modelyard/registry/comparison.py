"""Versions side by side: which is better, by how much, and whether that is more than noise."""

import math
from typing import Any

from sqlalchemy import Connection

from modelyard.domain.errors import Invalid
from modelyard.registry import evidence, versions
from modelyard.registry.gates import lower_is_better

Z95 = 1.959964
"""Two-sided 95% quantile of the standard normal distribution."""


def compare(conn: Connection, name: str, references: list[str]) -> dict[str, Any]:
    """Metrics of two or more versions, each compared with the first.

    A difference is "beyond noise" when the evidence holds a paired interval that excludes zero, or else when it
    exceeds 1.96 joint standard errors; without standard errors nothing is claimed. Raises NotFound, and Invalid for
    fewer than two.
    """
    if len(references) < 2:
        raise Invalid("A comparison needs two or more versions.", remedy="Name them: modelyard compare NAME 1 2")
    found = [versions.resolve(conn, name, reference) for reference in references]
    contents = [evidence.evaluation(conn, name, version.version) or {} for version in found]
    first = contents[0]
    metrics = sorted({metric for content in contents for metric in content.get("metrics", {})})
    rows = [
        {
            "metric": metric,
            "lower_is_better": lower_is_better(metric),
            "values": [content.get("metrics", {}).get(metric) for content in contents],
            "differences": [
                _difference(metric, first, content, found[0].version, version.version)
                for content, version in zip(contents[1:], found[1:], strict=True)
            ],
        }
        for metric in metrics
    ]
    same_data = len({content.get("dataset") for content in contents}) == 1 and "dataset" in first
    return {
        "model": name,
        "versions": [version.version for version in found],
        "aliases": [version.aliases for version in found],
        "same_data": same_data,
        "metrics": rows,
        "params": _params([version.lineage.get("params", {}) for version in found]),
        "datasets": [content.get("dataset") for content in contents],
        "code": [version.lineage.get("code", {}) for version in found],
        "size_bytes": [sum(file.size for file in versions.files(conn, name, v.version)) for v in found],
    }


def _difference(
    metric: str, base: dict[str, Any], other: dict[str, Any], base_version: int, other_version: int
) -> dict[str, Any] | None:
    before, after = base.get("metrics", {}).get(metric), other.get("metrics", {}).get(metric)
    if before is None or after is None:
        return None
    low, high = _interval(metric, base, other, base_version, other_version, after - before)
    beyond = None if low is None or high is None else not low <= 0 <= high
    difference = _paired(metric, other, base_version)
    value = difference["value"] if difference else after - before
    better = "neither" if value == 0 else ("second" if (value < 0) == lower_is_better(metric) else "first")
    return {"value": value, "low": low, "high": high, "beyond_noise": beyond, "better": better}


def _interval(
    metric: str, base: dict[str, Any], other: dict[str, Any], base_version: int, other_version: int, value: float
) -> tuple[float | None, float | None]:
    paired = _paired(metric, other, base_version)
    if paired:
        return paired["low"], paired["high"]
    turned = _paired(metric, base, other_version)
    if turned:
        return -turned["high"], -turned["low"]
    errors = [content.get("standard_errors", {}).get(metric) for content in (base, other)]
    if errors[0] is None or errors[1] is None:
        return None, None
    margin = Z95 * math.hypot(*errors)
    return value - margin, value + margin


def _paired(metric: str, content: dict[str, Any], champion: int) -> dict[str, float] | None:
    """The paired difference on the same rows, when the evidence compared with exactly this version."""
    compared = content.get("champion") or {}
    return compared.get("difference", {}).get(metric) if compared.get("version") == champion else None


def _params(held: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = sorted({name for params in held for name in params})
    rows = [{"param": name, "values": [params.get(name) for params in held]} for name in names]
    return [{**row, "differs": any(value != row["values"][0] for value in row["values"])} for row in rows]
