"""A first idea of what can be learnt: a few candidate models, cross-validated, with their uncertainty."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from modelyard.build.explore.candidates import candidates, usable
from modelyard.build.explore.profile import task_of

FOLDS = 5
MOST_ROWS = 20_000
SEED = 0
METRIC = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "r2"}


def leaderboard(
    frame: Any,
    target: str,
    budget_s: float,
    suspects: Sequence[str] = (),
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Candidates by their mean score over FOLDS folds, the best first.

    standard_error: of the mean over folds, corrected for their overlap (Nadeau and Bengio 2003). A candidate whose
    score is within one such error of the best is `tied`. What does not fit into `budget_s` seconds is left out, and
    named in `left_out`. suspects: columns that are not used, since they would give the answer away.
    """
    rows = frame[frame[target].notna()]
    if len(rows) > MOST_ROWS:
        rows = rows.sample(MOST_ROWS, random_state=SEED).sort_index()
    task = task_of(rows[target])
    features = [name for name in usable(rows, target) if name not in suspects]
    truth = rows[target] if task == "regression" else rows[target].astype(str)
    if task == "binary":
        truth = (truth == sorted(truth.unique())[1]).astype(int)
    started, made, left_out = time.perf_counter(), list[dict[str, Any]](), list[str]()
    for name, model in candidates(task, rows[features]).items():
        if made and time.perf_counter() - started > budget_s:
            left_out.append(name)
            continue
        progress(name)
        made.append(_scored(name, model, rows[features], truth, task))
    made.sort(key=lambda item: -item["score"])
    if made:
        best = made[0]
        for item in made:
            item["tied"] = item["score"] >= best["score"] - max(best["standard_error"], item["standard_error"])
    return {
        "task": task,
        "metric": METRIC[task],
        "rows": len(rows),
        "features": features,
        "suspects": list(suspects),
        "candidates": made,
        "left_out": left_out,
    }


def _scored(name: str, model: Any, features: Any, truth: Any, task: str) -> dict[str, Any]:
    import numpy as np  # late: see above
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from threadpoolctl import threadpool_limits

    smallest = len(truth) if task == "regression" else int(truth.value_counts().min())
    folds = max(2, min(FOLDS, smallest))
    kind = KFold if task == "regression" else StratifiedKFold
    split = kind(folds, shuffle=True, random_state=SEED)
    started = time.perf_counter()
    with warnings.catch_warnings(), threadpool_limits(1):  # small work: threads would only wait for each other
        warnings.simplefilter("ignore")  # a first look: convergence and rare classes show in the scores
        scores = cross_val_score(model, features, truth, cv=split, scoring=METRIC[task])
    spread = float(np.var(scores, ddof=1))
    error = math.sqrt((1 / folds + 1 / (folds - 1)) * spread)
    return {
        "name": name,
        "score": float(scores.mean()),
        "standard_error": error,
        "folds": [float(score) for score in scores],
        "seconds": time.perf_counter() - started,
    }
