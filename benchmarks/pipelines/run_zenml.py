import sys
from typing import Any

import pandas as pd
import work
from sklearn.base import BaseEstimator
from zenml import pipeline, step


@step
def inc(number: int) -> int:
    return work.inc(number)


@step
def add(numbers: list) -> int:
    return work.add(numbers)


@step
def load() -> pd.DataFrame:
    return work.load()


@step
def features(frame: pd.DataFrame) -> pd.DataFrame:
    return work.features(frame)


@step
def fit(frame: pd.DataFrame) -> BaseEstimator:
    return work.fit(frame)


@step
def evaluate(model: BaseEstimator, frame: pd.DataFrame) -> float:
    return work.evaluate(model, frame)


@pipeline
def chain() -> None:
    value: Any = 0
    for _ in range(work.CHAIN):
        value = inc(value)


@pipeline
def fan() -> None:
    for number in range(work.FAN):
        inc(number)


@pipeline
def train() -> None:
    frame = features(load())
    evaluate(fit(frame), frame)


if __name__ == "__main__":
    {"chain": chain, "fan": fan, "train": train}[sys.argv[1]]()
    print("RESULT done")
