"""What the short ways to a model's answers share: they give its very bits, or leave the rows to its own code."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelyard.deliver.serving.errors import BadInput

Array = Any
Function = Callable[[Array], Array]


class Unusual(Exception):
    """The rows need the model's own code."""


def is_a(model: Any, *names: str) -> bool:
    return type(model).__name__ in names and type(model).__module__.startswith("sklearn.")


def alike(own: Callable[[Any], Array], short: Callable[[Any], Array], given: Any, frame: Any = None) -> bool:
    """Whether both give the same type, shape and bits, or the short way leaves to the model what it refuses.

    frame: what the model itself gets, where that is not `given`.
    """
    try:
        expected = own(given if frame is None else frame)
    except (ValueError, BadInput):
        expected = None
    try:
        found = short(given)
    except Unusual:
        return True
    except (ValueError, BadInput):
        return expected is None
    if expected is None:
        return False
    same = (expected.dtype, expected.shape) == (found.dtype, found.shape)
    return same and expected.tobytes() == found.tobytes()


def through(transforms: Sequence[Function], rows: Array) -> Array:
    """The transformed rows. Raises Unusual for infinite values, which the steps refuse."""
    if transforms and np.isinf(rows).any():
        raise Unusual
    for transform in transforms:
        rows = transform(rows)
    return rows
