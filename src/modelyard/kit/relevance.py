"""How well items are ranked within their queries."""

import itertools
from typing import Any

from modelyard.kit.scores import Measured, average_precision, interval, mean_error


def ranking(labels: Any, scores: Any, queries: Any, cut: int = 10) -> Measured:
    """NDCG over all items and over the first `cut`, mean reciprocal rank and mean average precision over queries.

    labels: relevance >= 0, shape (rows,); scores: the higher the earlier; queries: what each row belongs to. An item
    is relevant when its label is above 0; queries without one are left out. Equal scores: NDCG takes the mean over
    their orders, the reciprocal rank the last place. Standard errors are those of a mean over queries.
    Sources: Jarvelin and Kekalainen 2002 (gain = label, discount log2); Voorhees 1999 (reciprocal rank).
    """
    values = by_query(labels, scores, queries, cut)
    metrics = {name: float(held.mean()) for name, held in values.items()}
    return Measured(metrics, {name: mean_error(held) for name, held in values.items()})


def by_query(labels: Any, scores: Any, queries: Any, cut: int = 10) -> dict[str, Any]:
    """The metrics of `ranking` for each query that has a relevant item, by name, each of shape (queries,)."""
    import numpy as np  # late: kit is imported everywhere

    _, codes = np.unique(queries, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.diff(codes[order], prepend=-1, append=codes.max(initial=-1) + 1))
    found: dict[str, list[float]] = {"ndcg": [], f"ndcg_at_{cut}": [], "mrr": [], "map": []}
    for start, end in itertools.pairwise(bounds):
        rows = order[start:end]
        gains, said = labels[rows].astype(float), scores[rows].astype(float)
        relevant = gains > 0
        if not relevant.any():
            continue
        found["ndcg"].append(ndcg(gains, said, len(rows)))
        found[f"ndcg_at_{cut}"].append(ndcg(gains, said, cut))
        found["mrr"].append(1 / int((said >= said[relevant].max()).sum()))
        found["map"].append(average_precision(relevant.astype(int), said))
    return {name: np.asarray(held) for name, held in found.items() if held}


def differences(labels: Any, first: Any, second: Any, queries: Any) -> dict[str, dict[str, float]]:
    """{metric: {value, low, high}} of first - second, paired by query; the 95% interval of a mean over queries."""
    ours, theirs = (by_query(labels, scores, queries) for scores in (first, second))
    return {
        name: interval(float((ours[name] - theirs[name]).mean()), mean_error(ours[name] - theirs[name]))
        for name in ours
    }


def ndcg(gains: Any, scores: Any, cut: int) -> float:
    """Normalized discounted cumulative gain of the first `cut` items of one query; some gain is above 0."""
    import numpy as np  # late: see above

    discounts = 1 / np.log2(np.arange(len(gains)) + 2)
    discounts[cut:] = 0
    _, group, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    means = np.bincount(group, gains) / counts
    ends = np.cumsum(counts)
    shares = np.add.reduceat(discounts, np.concatenate(([0], ends[:-1])))
    return float((means * shares).sum() / (np.sort(gains)[::-1] * discounts).sum())
