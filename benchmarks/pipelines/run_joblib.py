import sys

import work
from joblib import Memory

memory = Memory(".joblib", verbose=0)
inc, add, load = memory.cache(work.inc), memory.cache(work.add), memory.cache(work.load)
features, fit, evaluate = memory.cache(work.features), memory.cache(work.fit), memory.cache(work.evaluate)


def chain() -> int:
    value = 0
    for _ in range(work.CHAIN):
        value = inc(value)
    return value


def fan() -> int:
    return add([inc(number) for number in range(work.FAN)])


def train() -> float:
    frame = features(load())
    return evaluate(fit(frame), frame)


if __name__ == "__main__":
    print("RESULT", {"chain": chain, "fan": fan, "train": train}[sys.argv[1]]())
