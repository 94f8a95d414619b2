"""How well scores order labels: the area under the ROC curve and its uncertainty."""

from typing import Any


def roc_auc(labels: Any, scores: Any) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties counting half.

    labels: 0 or 1, shape (n,), both present; scores: real numbers, shape (n,). Source: Hanley and McNeil 1982.
    """
    import numpy as np  # late: kit is imported everywhere

    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.concatenate(([0], np.flatnonzero(np.diff(ordered)) + 1))
    lengths = np.diff(np.concatenate((starts, [len(ordered)])))
    ranks = np.repeat(starts + (lengths + 1) / 2, lengths)
    positive = labels[order] == 1
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(ordered) - count)))


def auc_standard_error(auc: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC (Hanley and McNeil 1982, equation 2)."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (first - auc**2) + (negatives - 1) * (second - auc**2)
    return float((max(spread, 0.0) / (positives * negatives)) ** 0.5)
