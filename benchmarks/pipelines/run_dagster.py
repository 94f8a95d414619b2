import sys

import work
from dagster import DagsterInstance, In, Nothing, job, op  # noqa: F401


@op
def first() -> int:
    return work.inc(0)


@op
def inc(number: int) -> int:
    return work.inc(number)


@op
def add(numbers: list) -> int:
    return work.add(numbers)


@op
def load():
    return work.load()


@op
def features(frame):
    return work.features(frame)


@op
def fit(frame):
    return work.fit(frame)


@op
def evaluate(model, frame) -> float:
    return work.evaluate(model, frame)


@job
def chain():
    value = first()
    for number in range(work.CHAIN - 1):
        value = inc.alias(f"inc{number}")(value)


@job
def fan():
    add([first.alias(f"first{number}")() for number in range(work.FAN)])


@job
def train():
    frame = features(load())
    evaluate(fit(frame), frame)


if __name__ == "__main__":
    made = {"chain": chain, "fan": fan, "train": train}[sys.argv[1]]
    done = made.execute_in_process(instance=DagsterInstance.get())
    print("RESULT", done.success)
