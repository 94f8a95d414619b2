import sys
from typing import Any

import work

import modelyard as yard


@yard.step
def inc(number: int) -> int:
    return work.inc(number)


@yard.step
def add(numbers: list[int]) -> int:
    return work.add(numbers)


@yard.step
def load() -> Any:
    return work.load()


@yard.step
def features(frame: Any) -> Any:
    return work.features(frame)


@yard.step
def fit(frame: Any) -> Any:
    return work.fit(frame)


@yard.step
def evaluate(model: Any, frame: Any) -> float:
    return work.evaluate(model, frame)


@yard.pipeline
def chain():
    value = 0
    for _ in range(work.CHAIN):
        value = inc(value)


@yard.pipeline
def fan():
    add([inc(number) for number in range(work.FAN)])


@yard.pipeline
def train():
    frame = features(load())
    evaluate(fit(frame), frame)


if __name__ == "__main__":
    {"chain": chain, "fan": fan, "train": train}[sys.argv[1]].run()
    print("RESULT done")
