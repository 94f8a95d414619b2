import sys
from typing import Any

import pandas as pd
import work
from flytekit import task, workflow
from sklearn.base import BaseEstimator

kept: dict[str, Any] = {"cache": True, "cache_version": "1"}


@task(**kept)
def inc(number: int) -> int:
    return work.inc(number)


@task(**kept)
def add(numbers: list[int]) -> int:
    return work.add(numbers)


@task(**kept)
def load() -> pd.DataFrame:
    return work.load()


@task(**kept)
def features(frame: pd.DataFrame) -> pd.DataFrame:
    return work.features(frame)


@task(**kept)
def fit(frame: pd.DataFrame) -> BaseEstimator:
    return work.fit(frame)


@task(**kept)
def evaluate(model: BaseEstimator, frame: pd.DataFrame) -> float:
    return work.evaluate(model, frame)


@workflow
def chain() -> int:
    value = inc(number=0)
    for _ in range(work.CHAIN - 1):
        value = inc(number=value)
    return value


@workflow
def fan() -> int:
    return add(numbers=[inc(number=number) for number in range(work.FAN)])


@workflow
def train() -> float:
    frame = features(frame=load())
    return evaluate(model=fit(frame=frame), frame=frame)


if __name__ == "__main__":
    print("RESULT", {"chain": chain, "fan": fan, "train": train}[sys.argv[1]]())
