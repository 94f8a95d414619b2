import sys

import work
from dbos import DBOS, SetWorkflowID

inc, add = DBOS.step()(work.inc), DBOS.step()(work.add)
load, features, fit = DBOS.step()(work.load), DBOS.step()(work.features), DBOS.step()(work.fit)
evaluate = DBOS.step()(work.evaluate)


@DBOS.workflow()
def chain() -> int:
    value = 0
    for _ in range(work.CHAIN):
        value = inc(value)
    return value


@DBOS.workflow()
def fan() -> int:
    return add([inc(number) for number in range(work.FAN)])


@DBOS.workflow()
def train() -> float:
    frame = features(load())
    return evaluate(fit(frame), frame)


if __name__ == "__main__":
    DBOS(config={"name": "bench", "system_database_url": "sqlite:///dbos.sqlite", "run_admin_server": False})
    DBOS.launch()
    with SetWorkflowID("bench"):  # the second run of the same finds what the first one left
        print("RESULT", {"chain": chain, "fan": fan, "train": train}[sys.argv[1]]())
    DBOS.destroy()
