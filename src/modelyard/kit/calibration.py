"""Whether probabilities mean what they say."""

from typing import Any

BINS = 10


def groups_of(scores: Any, bins: int = BINS) -> Any:
    """The group of each score, from 0: at most `bins` groups of about as many rows, by score."""
    import numpy as np  # late: kit is imported everywhere

    cuts = np.unique(np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1]))
    codes = np.searchsorted(cuts, scores, side="right")
    return np.unique(codes, return_inverse=True)[1]


def reliability(labels: Any, scores: Any, bins: int = BINS) -> tuple[Any, Any, Any]:
    """(mean score, share of 1, rows) in each of at most `bins` groups of about as many rows, by score.

    labels: 0 or 1, shape (rows,); scores: probabilities. Equal scores stay together, so there may be fewer groups.
    """
    import numpy as np  # late: kit is imported everywhere

    codes = groups_of(scores, bins)
    counts = np.bincount(codes)
    return np.bincount(codes, scores) / counts, np.bincount(codes, labels) / counts, counts


def expected_calibration_error(labels: Any, scores: Any, bins: int = BINS) -> float:
    """The mean distance between what was said and what came, over groups of about as many rows.

    Small samples raise it: of a perfect model with n rows it is about sqrt(bins / n) * 0.3.
    Source: Nguyen and O'Connor 2015 (adaptive bins); Naeini, Cooper and Hauskrecht 2015.
    """
    said, came, counts = reliability(labels, scores, bins)
    return float((abs(said - came) * counts).sum() / counts.sum())


def shares_of_calibration_error(labels: Any, scores: Any, bins: int = BINS) -> Any:
    """For each row its part in the expected calibration error, which is their mean; shape (rows,).

    Their spread gives the error's standard error, taking as given on which side of the truth each group lies.
    """
    import numpy as np  # late: see above

    codes = groups_of(scores, bins)
    off = scores - labels
    return np.sign(np.bincount(codes, off))[codes] * off
