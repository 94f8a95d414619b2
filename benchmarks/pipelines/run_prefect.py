import sys

import work
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

kept = {"persist_result": True, "cache_policy": INPUTS + TASK_SOURCE}
inc = task(work.inc, **kept)
add = task(work.add, **kept)
load = task(work.load, **kept)
features = task(work.features, **kept)
fit = task(work.fit, **kept)
evaluate = task(work.evaluate, **kept)


@flow
def chain() -> int:
    value = 0
    for _ in range(work.CHAIN):
        value = inc(value)
    return value


@flow
def fan() -> int:
    return add([each.result() for each in [inc.submit(number) for number in range(work.FAN)]])


@flow
def train() -> float:
    frame = features(load())
    return evaluate(fit(frame), frame)


if __name__ == "__main__":
    print("RESULT", {"chain": chain, "fan": fan, "train": train}[sys.argv[1]]())
