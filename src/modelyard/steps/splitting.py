"""Splitting rows into those to learn from and those to judge by, without a way from one to the other."""

import itertools
from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.graph import step
from modelyard.domain.errors import Invalid

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@step
def split(
    rows: "pd.DataFrame",
    test: float = 0.25,
    stratify: str | None = None,
    group: str | None = None,
    time: str | None = None,
    gap: str | float = 0,
    seed: int = 0,
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(learn, test): a share `test` of the rows is held out, the same rows each time; both keep the rows' order.

    At random, or with one of: stratify, a column whose values take the same shares on both sides; group, a column
    whose values lie whole on one side; time, a column by which the newest rows are held out. Rows of one moment stay
    together, and nothing is learnt from less than `gap` before the first test row: a duration such as `7D` for
    times, a number for numbers. Raises Invalid when a side would be empty.
    """
    if not 0 < test < 1:
        raise Invalid(f"A share of {test:g} cannot be held out.", remedy="Give more than 0 and less than 1.")
    chosen = {name: value for name, value in (("stratify", stratify), ("group", group), ("time", time)) if value}
    if len(chosen) > 1:
        raise Invalid(f"split takes one of {', '.join(chosen)}.", remedy="Name one column to split by.")
    if gap and not time:
        raise Invalid("A gap is one of time.", remedy="Name the column of the time: split(rows, time=..., gap=...).")
    for column in chosen.values():
        if column not in rows.columns:
            known = ", ".join(map(str, list(rows.columns)[:30]))
            raise Invalid(f"There is no column {column!r} to split by.", remedy=f"Columns: {known}.")
        if rows[column].isna().any():
            raise Invalid(f"{column!r}, to split by, is missing in some rows.", remedy="Leave those rows out before.")
    if time:
        learn, held = _by_time(rows[time], test, gap)
    elif group:
        held = _grouped(rows[group], test, seed)
        learn = ~held
    else:
        held = _random(rows[stratify] if stratify else None, len(rows), test, seed)
        learn = ~held
    if not learn.any() or not held.any():
        raise Invalid(
            f"Of {len(rows)} rows, {int(held.sum())} would be held out and {int(learn.sum())} learnt from.",
            remedy="Give more rows, another share, or a smaller gap.",
        )
    return rows[learn].reset_index(drop=True), rows[held].reset_index(drop=True)


def _random(strata: "pd.Series | None", count: int, test: float, seed: int) -> "np.ndarray":
    """Which rows are held out; of each stratum the same share, to a row."""
    import numpy as np  # late: importing steps must not load it

    random = np.random.default_rng(seed)
    codes = np.zeros(count, int) if strata is None else strata.astype(str).factorize()[0]
    places = random.permutation(count)
    places = places[np.argsort(codes[places], kind="stable")]
    starts = np.searchsorted(codes[places], np.arange(codes.max(initial=0) + 2))
    held = np.zeros(count, bool)
    owed = 0.0
    for start, end in itertools.pairwise(starts):
        owed += (end - start) * test
        take = min(end - start, round(owed))
        held[places[start : start + take]] = True
        owed -= take
    return held


def _grouped(groups: "pd.Series", test: float, seed: int) -> "np.ndarray":
    """Which rows are held out: whole groups in a random order, until the share is reached as nearly as they allow."""
    import numpy as np  # late: see above

    codes, names = groups.factorize()
    sizes = np.bincount(codes, minlength=len(names))
    order = np.random.default_rng(seed).permutation(len(names))
    wanted, taken = test * len(groups), 0
    chosen: list[int] = []
    for code in order.tolist():
        if taken and abs(taken + sizes[code] - wanted) > abs(taken - wanted):
            continue
        if len(chosen) == len(names) - 1:
            break
        chosen.append(code)
        taken += int(sizes[code])
        if taken >= wanted:
            break
    return np.isin(codes, chosen)


def _by_time(times: "pd.Series", test: float, gap: str | float) -> "tuple[np.ndarray, np.ndarray]":
    """(learn, held out): the rows from a moment on are held out, those less than `gap` before it left out."""
    import pandas as pd  # late: see above

    if pd.api.types.is_numeric_dtype(times):
        if isinstance(gap, str):
            raise Invalid(f"The gap {gap!r} is a duration, and the time a number.", remedy="Give a number.")
        values, margin = times, gap
    else:
        try:
            values, margin = pd.to_datetime(times), pd.Timedelta(gap) if gap else pd.Timedelta(0)
        except ValueError as error:
            raise Invalid(f"The time cannot be read: {error}", remedy="Give dates, and a gap such as 7D.") from error
    ordered = values.sort_values(kind="stable")
    start: Any = ordered.iloc[min(len(ordered) - 1, round(len(ordered) * (1 - test)))]
    held = (values >= start).to_numpy()
    learn = (values < start - margin).to_numpy() if gap else ~held
    return learn & ~held, held
