"""Batch prediction by processes of a model's own environment, which has other libraries than ours."""

import os
import pickle
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

from modelyard.deliver.serving.batch import Counted, Work
from modelyard.deliver.serving.batch_process import Answer
from modelyard.domain.errors import Invalid, Unavailable

MODULE = "modelyard.deliver.serving.batch_process"
END_S = 10.0


def predicted(work: list[Work], python: str, workers: int) -> Iterator[Counted]:
    """What each part has as it is finished; the first failure ends the run, what is written stays.

    python: the environment's interpreter. Raises Invalid, Unavailable.
    """
    count = max(1, min(workers, len(work)))
    free: SimpleQueue[_Process] = SimpleQueue()

    def one(item: Work) -> list[Counted]:
        process = free.get()
        try:
            return process.predict(item)
        finally:
            free.put(process)

    with ExitStack() as stack:
        for _ in range(count):
            free.put(stack.enter_context(_Process(python)))
        pool = stack.enter_context(ThreadPoolExecutor(count))
        try:
            for future in as_completed([pool.submit(one, item) for item in work]):
                yield from future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Process:
    """One process; its end is that of the `with`."""

    def __init__(self, python: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # to our libraries
        self._process = subprocess.Popen(
            [python, "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=inherited
        )

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=END_S)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.communicate()

    def predict(self, work: Work) -> list[Counted]:
        given, answers = self._process.stdin, self._process.stdout
        assert given is not None and answers is not None
        try:
            pickle.dump(work, given)
            given.flush()
            found: tuple[Any, ...] = pickle.load(answers)
        except (EOFError, BrokenPipeError) as error:
            raise Unavailable(
                f"A process of the model's own environment ended with exit code {self._process.wait()}.",
                remedy="Its last words are above; run again to go on where it was.",
            ) from error
        answer = Answer(*found)
        if answer.message:
            raise Invalid(answer.message, remedy=answer.remedy)
        return answer.parts
