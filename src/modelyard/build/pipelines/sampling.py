"""Running everything on a fraction: what the first steps return is thinned, the rest follows."""

from typing import Any

from modelyard.build.pipelines.serializers import is_a

LEAST_ROWS = 50
SEED = 0


def sampled(value: Any, share: float) -> Any:
    """A share of a frame's, array's or list's rows, at least LEAST_ROWS of them; any other value as it is."""
    if is_a(value, "pandas.DataFrame", "pandas.Series"):
        count = _count(len(value), share)
        return value.sample(n=count, random_state=SEED).sort_index() if count < len(value) else value
    if is_a(value, "polars.DataFrame"):
        return value.sample(n=_count(len(value), share), seed=SEED)
    if is_a(value, "numpy.ndarray") and value.ndim:
        return value[:: _stride(len(value), share)]
    return value[:: _stride(len(value), share)] if isinstance(value, list) else value


def _count(rows: int, share: float) -> int:
    return min(rows, max(LEAST_ROWS, round(rows * share)))


def _stride(rows: int, share: float) -> int:
    return max(1, rows // max(1, _count(rows, share)))
