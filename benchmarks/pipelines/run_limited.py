"""A chain whose steps run in worker processes of their own, since they have a time limit."""

import work

import modelyard as yard


@yard.step(timeout="1m")
def inc(number: int) -> int:
    return work.inc(number)


@yard.pipeline
def chain():
    value = 0
    for _ in range(work.CHAIN):
        value = inc(value)


if __name__ == "__main__":
    chain.run()
