import sys

import work


def chain() -> int:
    value = 0
    for _ in range(work.CHAIN):
        value = work.inc(value)
    return value


def fan() -> int:
    return work.add([work.inc(number) for number in range(work.FAN)])


def train() -> float:
    frame = work.features(work.load())
    return work.evaluate(work.fit(frame), frame)


print("RESULT", {"chain": chain, "fan": fan, "train": train}[sys.argv[1]]())
