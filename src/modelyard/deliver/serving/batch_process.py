"""A process of batch prediction in another interpreter: takes pieces of work on its input, answers on its output.

Both are pickled, of the one that started it. What the model prints goes to standard error.
"""

import os
import pickle
import sys
from typing import NamedTuple

from modelyard.deliver.serving.batch import Counted, predict_all
from modelyard.domain.errors import Invalid
from modelyard.kit.processes import die_with_parent


class Answer(NamedTuple):
    """What each part has, or why there are none."""

    parts: list[Counted]
    message: str = ""
    remedy: str = ""


def main() -> None:
    """Until the input ends. An error that is not the input's ends the process with its trace."""
    die_with_parent()
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        while True:
            try:
                work = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                answer = Answer(predict_all(work))
            except Invalid as error:
                answer = Answer([], error.message, error.remedy)
            pickle.dump(tuple(answer), answers)
            answers.flush()


if __name__ == "__main__":
    main()
