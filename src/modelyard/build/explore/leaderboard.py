"""A first idea of what can be learnt: a few candidate models, cross-validated, with their uncertainty."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from modelyard.build.explore.profile import kind_of, task_of

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


def usable(frame: Any, target: str) -> list[str]:
    """Columns that a first model can take: numbers, truths and categories that are no identifiers."""
    found: list[str] = []
    for name in frame.columns:
        kind, distinct = kind_of(frame[name]), frame[name].astype(str).nunique()
        identifier = distinct == len(frame) and not str(frame[name].dtype).startswith("float")
        if name != target and kind in ("number", "truth", "category") and distinct > 1 and not identifier:
            found.append(str(name))
    return found


def candidates(task: str, features: Any) -> dict[str, Any]:
    """Unfitted pipelines by name, the cheapest first; a baseline that looks at nothing leads."""
    from sklearn.compose import make_column_transformer  # late: only the leaderboard needs it
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    names = [name for name in features.columns if kind_of(features[name]) == "number"]
    others = [name for name in features.columns if name not in names]
    one_hot = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), names),
        (OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=30), others),
    )
    ordinal = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), others),
        (SimpleImputer(strategy="median"), names),
    )
    kept = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), others), ("passthrough", names)
    )
    forest: dict[str, Any] = {"n_estimators": 100, "min_samples_leaf": 5, "random_state": SEED}
    if task == "regression":
        return {
            "baseline": DummyRegressor(),
            "linear": make_pipeline(one_hot, Ridge()),
            "boosting": make_pipeline(kept, HistGradientBoostingRegressor(random_state=SEED)),
            "forest": make_pipeline(ordinal, RandomForestRegressor(**forest)),
        }
    return {
        "baseline": DummyClassifier(strategy="prior"),
        "linear": make_pipeline(one_hot, LogisticRegression(max_iter=1000)),
        "boosting": make_pipeline(kept, HistGradientBoostingClassifier(random_state=SEED)),
        "forest": make_pipeline(ordinal, RandomForestClassifier(**forest)),
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
