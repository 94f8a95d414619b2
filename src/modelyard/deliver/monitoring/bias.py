"""Bias on live traffic and on labels: the groups of protected columns and of their crossings, with enough rows each.

Bounds are on ratios and gaps between groups; beside them stand the Clarify families (`kit/fairness`) of each group
against all other rows, of the labels and of the predictions.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.sketches import Floats
from modelyard.deliver.monitoring.slices import z_of
from modelyard.domain.monitors import BiasLimits
from modelyard.kit import fairness
from modelyard.kit.scores import Z95

MOST_GROUPS = 200
MOST_CLASSES = 20
LEAST_OF_A_CLASS = 50


@dataclass(frozen=True)
class Bias:
    """groups of one protected column (or crossing), measures over those large enough, whether a bound broke.

    of: the class that is judged against the rest; empty for two classes.
    """

    by: str
    of: str
    groups: list[dict[str, Any]]
    measures: dict[str, float]
    skipped: int
    broken: bool
    why: str


def check(
    columns: Mapping[str, Any],
    predictions: Floats,
    labels: Floats | None,
    protected: Sequence[str],
    limits: BiasLimits,
) -> list[Bias]:
    """Bias of binary predictions (at 0.5) over each protected column and each crossing of two.

    columns: text by name; predictions, labels: shape (rows,), labels NaN where unknown. Groups below
    `limits.least_rows` rows are counted as skipped: chance alone would break any bound on them.
    """
    return [_over(by, keys, predictions, labels, limits, Z95) for by, keys in _crossings(columns, protected).items()]


def check_classes(
    columns: Mapping[str, Any], predictions: Any, labels: Any, protected: Sequence[str], limits: BiasLimits
) -> list[Bias]:
    """Bias of each class against the rest, as `check` has it: being given the class is the positive prediction.

    predictions, labels: classes as text, shape (rows,). The MOST_CLASSES most frequent classes with LEAST_OF_A_CLASS
    rows are judged; noise allows for their number (Bonferroni), or one class in twenty would break a bound by chance.
    """
    names, counts = np.unique(np.concatenate([labels, predictions]), return_counts=True)
    order = [at for at in np.argsort(-counts, kind="stable")[:MOST_CLASSES] if counts[at] >= LEAST_OF_A_CLASS]
    z = z_of(0.025 / max(len(order), 1))
    found: list[Bias] = []
    for by, keys in _crossings(columns, protected).items():
        for at in order:
            said, true = (predictions == names[at]).astype(float), (labels == names[at]).astype(float)
            found.append(_over(by, keys, said, true, limits, z, str(names[at])))
    return found


def _crossings(columns: Mapping[str, Any], protected: Sequence[str]) -> dict[str, Any]:
    """The group of each row as text, by protected column and by crossing of two."""
    held = [name for name in protected if name in columns]
    names: list[tuple[str, ...]] = [(name,) for name in held]
    names += list(itertools.combinations(held, 2))
    found: dict[str, Any] = {}
    for chosen in names:
        values = [np.asarray(columns[name]).astype(str) for name in chosen]
        keys = values[0] if len(values) == 1 else np.char.add(np.char.add(values[0], " x "), values[1])
        found[" x ".join(chosen)] = keys
    return found


def _over(
    by: str, keys: Any, predictions: Floats, labels: Floats | None, limits: BiasLimits, z: float, of: str = ""
) -> Bias:
    names, codes, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(-counts)[:MOST_GROUPS]
    large = [at for at in order.tolist() if counts[at] >= limits.least_rows]
    groups = [_group(str(names[at]), codes == at, predictions, labels) for at in large]
    for group, at in zip(groups, large, strict=True):
        group["families"] = _families(codes == at, predictions, labels)
    measures = _measures(groups)
    broken, why = _broken(groups, measures, limits, z, of)
    return Bias(by, of, groups, measures, len(names) - len(large), broken, why)


def _group(name: str, chosen: Any, predictions: Floats, labels: Floats | None) -> dict[str, Any]:
    positive = predictions[chosen] >= 0.5
    group: dict[str, Any] = {"value": name, "rows": int(chosen.sum()), "positive_rate": float(positive.mean())}
    if labels is None:
        return group
    truth = labels[chosen]
    known = ~np.isnan(truth)
    group["labels"] = int(known.sum())
    if not known.any():
        return group
    truth, said = truth[known] == 1, positive[known]
    group["positives"] = int(truth.sum())
    group |= {"base_rate": float(truth.mean()), "accuracy": float((truth == said).mean())}
    for measure, held in (("true_positive_rate", truth), ("false_positive_rate", ~truth)):
        if held.sum() >= 20:
            group[measure] = float(said[held].mean())
    if said.sum() >= 20:
        group["precision"] = float(truth[said].mean())
    return group


def _families(group: Any, predictions: Floats, labels: Floats | None) -> dict[str, float]:
    """Clarify's measures of a group against all other rows; of those with a label where there are labels."""
    if labels is None:
        return {}
    known = ~np.isnan(labels)
    true, said = labels[known] == 1, predictions[known] >= 0.5
    return {**fairness.of_labels(true, group[known]), **fairness.of_class(true, group[known], said)}


def _measures(groups: list[dict[str, Any]]) -> dict[str, float]:
    """Ratios (lowest divided by highest) and gaps (highest minus lowest) of each rate over the groups with it."""
    found: dict[str, float] = {}
    for rate in ("positive_rate", "base_rate", "accuracy", "true_positive_rate", "false_positive_rate", "precision"):
        values = [group[rate] for group in groups if rate in group]
        if len(values) < 2:
            continue
        found[f"{rate}_gap"] = max(values) - min(values)
        if max(values) > 0:
            found[f"{rate}_ratio"] = min(values) / max(values)
    return found


def _broken(
    groups: list[dict[str, Any]], measures: dict[str, float], limits: BiasLimits, z: float, of: str
) -> tuple[bool, str]:
    """Whether a bound is broken beyond noise (z standard errors), and by which groups."""
    said = f"predictions of {of}" if of else "positive predictions"
    ratio, gap = measures.get("positive_rate_ratio"), measures.get("true_positive_rate_gap")
    if limits.min_ratio is not None and ratio is not None and ratio < limits.min_ratio:
        low = min(groups, key=lambda group: group["positive_rate"])
        high = max(groups, key=lambda group: group["positive_rate"])
        if _upper(low, z) < limits.min_ratio * _lower(high, z):
            return True, (
                f"{said}: {low['value']} {low['positive_rate']:.1%}, {high['value']} "
                f"{high['positive_rate']:.1%}; ratio {ratio:.2f} < {limits.min_ratio:g}"
            )
    if limits.max_quality_gap is not None and gap is not None and gap > limits.max_quality_gap:
        known = [group for group in groups if "true_positive_rate" in group]
        ends = [pick(known, key=lambda group: group["true_positive_rate"]) for pick in (min, max)]
        noise = z * math.hypot(*(_error(end["true_positive_rate"], end["positives"]) for end in ends))
        if gap - noise > limits.max_quality_gap:
            named = f"found {of}" if of else "true positive rates"
            return True, (
                f"{named}: {ends[0]['value']} {ends[0]['true_positive_rate']:.1%}, {ends[1]['value']} "
                f"{ends[1]['true_positive_rate']:.1%}; they differ by {gap:.2f} > {limits.max_quality_gap:g}"
            )
    return False, ""


def _error(rate: float, rows: int) -> float:
    return math.sqrt(max(rate * (1 - rate), 1e-6) / rows)


def _upper(group: dict[str, Any], z: float) -> float:
    rate = group["positive_rate"]
    return rate + z * _error(rate, group["rows"])


def _lower(group: dict[str, Any], z: float) -> float:
    rate = group["positive_rate"]
    return max(0.0, rate - z * _error(rate, group["rows"]))
