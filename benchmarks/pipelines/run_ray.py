"""Tasks on Ray: bare ones as a script, or the same as a pipeline; each waits PAUSE_S as if it computed."""

import time

import modelyard as yard

TASKS, PAUSE_S = 100, 0.05


@yard.step
def work_on(number: int) -> int:
    time.sleep(PAUSE_S)
    return number + 1


@yard.step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@yard.pipeline
def fan():
    total([work_on(number) for number in range(TASKS)])


def bare() -> float:
    """Seconds that the tasks take on a cluster that has started, whose nodes get this folder, as of any job."""
    import ray

    ray.init(log_to_driver=False, runtime_env={"working_dir": "."})
    started = time.perf_counter()
    each, end = ray.remote(work_on.function), ray.remote(lambda *numbers: sum(numbers))
    ray.get(end.remote(*[each.remote(number) for number in range(TASKS)]))
    return time.perf_counter() - started


if __name__ == "__main__":
    print("SECONDS", bare())
