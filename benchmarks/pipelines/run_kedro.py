import sys

import work
from kedro.io import DataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner


def first() -> int:
    return work.inc(0)


def add(*numbers: int) -> int:
    return work.add(list(numbers))


def chain():
    steps = [node(first, None, "v0", name="first")]
    return pipeline([*steps, *(node(work.inc, f"v{n}", f"v{n + 1}", name=f"inc{n}") for n in range(work.CHAIN - 1))])


def fan():
    names = [f"v{n}" for n in range(work.FAN)]
    steps = [node(first, None, name, name=f"make-{name}") for name in names]
    return pipeline([*steps, node(add, names, "total", name="add")])


def train():
    return pipeline(
        [
            node(work.load, None, "frame"),
            node(work.features, "frame", "features"),
            node(work.fit, "features", "model"),
            node(work.evaluate, ["model", "features"], "auc"),
        ]
    )


if __name__ == "__main__":
    SequentialRunner().run({"chain": chain, "fan": fan, "train": train}[sys.argv[1]](), DataCatalog())
    print("RESULT done")
