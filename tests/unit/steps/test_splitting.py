"""Splits: nothing is on both sides, by whatever the rows are split."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelyard import steps
from modelyard.domain.errors import Invalid

SHARES = st.floats(0.05, 0.9)
SEEDS = st.integers(0, 1000)


def numbered(**columns: Any) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    return pd.DataFrame({"row": range(rows), **columns})


def split(rows: pd.DataFrame, **how: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The split; an example that has an empty side is no example."""
    try:
        learn, test = steps.split(rows, **how)
    except Invalid:
        assume(False)
        raise
    assert not set(learn["row"]) & set(test["row"])
    assert learn["row"].is_monotonic_increasing and test["row"].is_monotonic_increasing
    return learn, test


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 200), SHARES, SEEDS)
def test_a_random_split_takes_each_row_once(count: int, share: float, seed: int):
    rows = numbered(x=np.zeros(count))
    learn, test = split(rows, test=share, seed=seed)
    assert len(learn) + len(test) == count
    assert len(test) == pytest.approx(count * share, abs=1)
    again = steps.split(rows, test=share, seed=seed)
    pd.testing.assert_frame_equal(test, again[1])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=10, max_size=200), SHARES, SEEDS)
def test_a_stratified_split_keeps_shares_to_a_row(labels: list[str], share: float, seed: int):
    learn, test = split(numbered(label=labels), test=share, stratify="label", seed=seed)
    assert len(learn) + len(test) == len(labels)
    for label in set(labels):
        assert (test["label"] == label).sum() == pytest.approx(labels.count(label) * share, abs=1)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=4, max_size=200), SHARES, SEEDS)
def test_no_group_is_on_both_sides(groups: list[int], share: float, seed: int):
    learn, test = split(numbered(group=groups), test=share, group="group", seed=seed)
    assert not set(learn["group"]) & set(test["group"])
    assert len(learn) + len(test) == len(groups)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=4, max_size=200), SHARES, st.integers(0, 10), st.booleans())
def test_nothing_is_learnt_from_the_future_or_the_gap(days: list[int], share: float, gap: int, dates: bool):
    start = pd.Timestamp("2026-01-01")
    times = [start + pd.Timedelta(days=day) for day in days] if dates else days
    how: Any = {"time": "time", "gap": f"{gap}D" if dates and gap else gap}
    learn, test = split(numbered(time=times), test=share, **how)
    margin: Any = pd.Timedelta(days=gap) if dates else gap
    assert learn["time"].max() < test["time"].min()
    assert learn["time"].max() < test["time"].min() - margin or not gap
    newest = sorted(times)[-len(test) :]
    assert sorted(test["time"].tolist()) == newest


def test_a_split_by_groups_comes_near_the_share():
    groups = np.repeat(np.arange(50), 20)
    _, test = steps.split(numbered(group=groups), test=0.2, group="group")
    assert len(test) == 200


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"test": 1.5}, "more than 0 and less than 1"),
        ({"stratify": "x", "time": "x"}, "one of stratify, time"),
        ({"gap": "7D"}, "Name the column of the time"),
        ({"group": "customer"}, "Columns: row, x"),
        ({"group": "x"}, "0 learnt from"),
    ],
)
def test_what_cannot_be_split_is_said(how: dict[str, Any], says: str):
    with pytest.raises(Invalid) as told:
        steps.split(numbered(x=np.zeros(10)), **how)
    assert says in str(told.value)
