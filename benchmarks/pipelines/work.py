"""The work that every engine does: ten trivial steps, a fan-out of fifty, and a training on 200,000 x 20 rows."""

import os
from typing import Any

CHAIN, FAN, ROWS, COLUMNS = int(os.environ.get("CHAIN", "10")), 50, 200_000, 20


def inc(number: int) -> int:
    return number + 1


def add(numbers: list[int]) -> int:
    return sum(numbers)


def load() -> Any:
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(ROWS, COLUMNS)), columns=[f"x{n}" for n in range(COLUMNS)])
    frame["late"] = (frame["x0"] + frame["x1"] * frame["x2"] + random.normal(size=ROWS) > 0).astype(int)
    return frame


def features(frame: Any) -> Any:
    kept = [name for name in frame.columns if name != "late"]
    scaled = (frame[kept] - frame[kept].mean()) / frame[kept].std()
    return scaled.assign(late=frame["late"])


def fit(frame: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    train = frame.iloc[: ROWS * 3 // 4]
    return HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(train.drop(columns="late"), train["late"])


def evaluate(model: Any, frame: Any) -> float:
    from sklearn.metrics import roc_auc_score

    test = frame.iloc[ROWS * 3 // 4 :]
    return float(roc_auc_score(test["late"], model.predict_proba(test.drop(columns="late"))[:, 1]))
