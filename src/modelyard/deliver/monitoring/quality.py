"""Whether live data keeps what the reference promised, and whether the model is as good as when it was registered."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelyard.domain.project import QualityLimits
from modelyard.kit.ranking import auc_standard_error, roc_auc

MISSING_JUMP = 0.05
"""A share of missing values that rose by more than this is reported."""
LEAST_NEW_SHARE = 0.01
Z = 1.959964
LEAST_LABELS = 200
LEAST_OF_A_CLASS = 20


@dataclass(frozen=True)
class Finding:
    """One broken promise of the reference."""

    column: str
    check: str
    message: str


@dataclass(frozen=True)
class ModelQuality:
    """A metric on labelled live rows against what was registered; `degraded` means beyond bound and noise."""

    metric: str
    value: float | None
    baseline: float | None
    standard_error: float | None
    rows: int
    degraded: bool
    why: str
    also: dict[str, float]

    def as_result(self) -> dict[str, Any]:
        return asdict(self)


def check_data(reference: dict[str, Any], current: dict[str, Any]) -> list[Finding]:
    """Missing values that jumped, categories that appeared. Arrays by column as in `drift.compare_table`."""
    findings: list[Finding] = []
    for name, before in reference.items():
        after = current.get(name)
        if after is None or not len(after):
            findings.append(Finding(name, "schema", f"{name} is absent from the live data"))
            continue
        if before.dtype.kind == "f":
            rise = float(np.isnan(after).mean() - np.isnan(before).mean())
            if rise > MISSING_JUMP:
                findings.append(Finding(name, "missing", f"{name}: missing values rose by {rise:.0%} of the rows"))
            continue
        new, counts = np.unique(after[~np.isin(after, np.unique(before))], return_counts=True)
        share = float(counts.sum() / len(after))
        if share > LEAST_NEW_SHARE:
            shown = ", ".join(new[np.argsort(-counts)][:3])
            findings.append(
                Finding(name, "new categories", f"{name}: {share:.1%} of the rows hold new values ({shown})")
            )
    return findings


def check_model(
    labels: Any, scores: Any, baseline: dict[str, float], errors: dict[str, float], limits: QualityLimits
) -> ModelQuality:
    """The model's ROC AUC on labelled rows against its registered evaluation.

    labels: 0 or 1, shape (n,); scores: probabilities, shape (n,). Degraded when the AUC fell by more than
    `max_regression` and by more than 1.96 joint standard errors (Hanley and McNeil 1982). Brier score and log loss
    are reported; they move with the base rate and do not decide.
    """
    rows, positives = len(labels), int(labels.sum())
    registered = baseline.get("roc_auc")
    few = min(positives, rows - positives) < LEAST_OF_A_CLASS
    if rows < LEAST_LABELS or few or registered is None:
        why = f"{rows} labelled rows, {positives} of them positive: too few to judge"
        return ModelQuality("roc_auc", None, registered, None, rows, False, why, {})
    value = roc_auc(labels, scores)
    error = auc_standard_error(value, positives, rows - positives)
    noise = Z * float(np.hypot(error, errors.get("roc_auc", 0.0)))
    fall = registered - value
    degraded = fall > limits.max_regression and fall > noise
    verb = "fell" if fall > 0 else "rose"
    why = f"roc_auc {verb} by {abs(fall):.3f} from {registered:.3f} to {value:.3f} (noise ±{noise:.3f})"
    clipped = np.clip(scores, 1e-15, 1 - 1e-15)
    also = {
        "brier": float(((scores - labels) ** 2).mean()),
        "log_loss": float(-(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean()),
        "base_rate": float(labels.mean()),
    }
    return ModelQuality("roc_auc", value, registered, error, rows, degraded, why, also)
