"""Bias of labels and of predictions between a group and all others: SageMaker Clarify's families, by its names.

Before training: class imbalance (CI), differences in proportions of labels (DPL), and distances between the groups'
label distributions. After training: differences and ratios of how the two are treated. A group stands for Clarify's
facet d (the one that may be disadvantaged), all other rows for facet a; positive is the class in question.
"""

from typing import Any

LEAST_OF_A_RATE = 20
"""Rows that a rate needs below its line; a measure without them is left out."""


def of_labels(labels: Any, group: Any) -> dict[str, float]:
    """CI, KL, JS, LP, TVD and KS of the label distributions. labels: classes, shape (rows,); group: whether in it.

    CI is (others - group) / rows. KL is of the others' distribution from the group's, with half a count for each
    class that a side lacks; LP is the Euclidean distance, TVD half the sum of differences, KS the largest of one
    class.
    """
    import numpy as np  # late: kit is imported everywhere

    inside, outside = int(group.sum()), int((~group).sum())
    found = {"class_imbalance": (outside - inside) / max(inside + outside, 1)}
    if min(inside, outside) < LEAST_OF_A_RATE:
        return found
    names, codes = np.unique(labels, return_inverse=True)
    shares: list[Any] = []
    for chosen in (~group, group):
        counts = np.bincount(codes[chosen], minlength=len(names)).astype(float)
        counts[counts == 0] = 0.5
        shares.append(counts / counts.sum())
    first, second = shares
    middle = (first + second) / 2
    halves = [float((side * np.log(side / middle)).sum()) for side in shares]
    return found | {
        "kl_divergence": float((first * np.log(first / second)).sum()),
        "js_divergence": sum(halves) / 2,
        "lp_norm": float(((first - second) ** 2).sum() ** 0.5),
        "total_variation": float(abs(first - second).sum() / 2),
        "kolmogorov_smirnov": float(abs(first - second).max()),
    }


def of_class(true: Any, group: Any, said: Any = None) -> dict[str, float]:
    """Differences and ratios for one class against the rest, others less group; zero (or a ratio of one) is none.

    true, said: whether a row is of the class, and whether the model says so, shape (rows,). Without `said` only what
    the labels show. Names: DPL, DPPL, DI, DCA, DCR, RD, SD, DAR, DRR, AD, TE of Clarify.
    """
    sides = [_rates(true[chosen], None if said is None else said[chosen]) for chosen in (~group, group)]
    names = {
        "label_rate": "difference_in_label_proportions",
        "positive_rate": "difference_in_positive_proportions",
        "conditional_acceptance": "difference_in_conditional_acceptance",
        "conditional_rejection": "difference_in_conditional_rejection",
        "recall": "recall_difference",
        "specificity": "specificity_difference",
        "precision": "difference_in_acceptance_rates",
        "rejection": "difference_in_rejection_rates",
        "accuracy": "accuracy_difference",
        "treatment": "treatment_equality",
    }
    others, own = sides
    found = {names[rate]: others[rate] - own[rate] for rate in names if rate in others and rate in own}
    if "positive_rate" in own and others.get("positive_rate"):
        found["disparate_impact"] = own["positive_rate"] / others["positive_rate"]
    return found


def _rates(true: Any, said: Any) -> dict[str, float]:
    rows, positives = len(true), int(true.sum())
    found: dict[str, float] = {}

    def rate(name: str, above: Any, below: int) -> None:
        if below >= LEAST_OF_A_RATE:
            found[name] = float(above / below)

    rate("label_rate", positives, rows)
    if said is None:
        return found
    accepted, hits = int(said.sum()), int((true & said).sum())
    right_no = int((~true & ~said).sum())
    rate("positive_rate", accepted, rows)
    rate("conditional_acceptance", positives, accepted)
    rate("conditional_rejection", rows - positives, rows - accepted)
    rate("recall", hits, positives)
    rate("specificity", right_no, rows - positives)
    rate("precision", hits, accepted)
    rate("rejection", right_no, rows - accepted)
    rate("accuracy", hits + right_no, rows)
    rate("treatment", positives - hits, accepted - hits)
    return found
