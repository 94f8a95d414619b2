"""Contracts: what breaks one is named by column and row, or set aside; the suggested one is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard import steps
from modelyard.domain import contracts
from modelyard.domain.errors import Invalid, NotFound

TEXT = """
[age]
kind = "numeric"
max_missing = 0.1
min = 0
max = 120

[plan]
kind = "categorical"
categories = ["basic", "plus"]
"""


def customers(rows: int = 40) -> pd.DataFrame:
    ages = np.arange(rows) + 20.0
    return pd.DataFrame({"age": ages, "plan": ["basic", "plus"] * (rows // 2), "note": ["x"] * rows})


@pytest.fixture
def contract(tmp_path: Path) -> str:
    (tmp_path / "contract.toml").write_text(TEXT)
    return str(tmp_path / "contract.toml")


def test_what_keeps_the_contract_passes_as_it_is(contract: str):
    rows = customers()
    assert steps.validate(rows, contract) is rows


def test_columns_and_rows_that_break_it_are_named(contract: str):
    rows = customers()
    rows.loc[[3, 7], "age"] = [-1.0, 150.0]
    rows.loc[5, "plan"] = "gold"
    with pytest.raises(Invalid) as told:
        steps.validate(rows, contract)
    message = str(told.value)
    assert "'age' < 0: 1 rows (3)" in message and "'age' > 120: 1 rows (7)" in message
    assert "such as 'gold': 1 rows (5)" in message and "quarantine" in message


def test_rows_that_break_it_are_set_aside_with_the_reason(contract: str):
    rows = customers()
    rows.loc[3, ["age", "plan"]] = [-1.0, "gold"]
    kept, refused = steps.quarantine(rows, contract)
    assert len(kept) == 39 and kept["age"].min() >= 0
    assert refused["broken"].tolist() == ["'age' < 0; 'plan' is none of its 2 categories, such as 'gold'"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows.drop(columns="age"), "column 'age' is absent"),
        (lambda rows: rows.assign(age="old"), "'age' is categorical, not numeric"),
        (lambda rows: rows.assign(age=rows["age"].where(rows["age"] > 40)), "missing in 52.5% of the rows"),
    ],
)
def test_no_row_is_blamed_for_a_broken_column(contract: str, change: Any, says: str):
    for step in (steps.validate, steps.quarantine):
        with pytest.raises(Invalid, match=says.replace(".", r"\.")):
            step(change(customers()), contract)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(60, 300))
def test_a_frame_keeps_the_contract_that_it_suggests(seed: int, count: int):
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "number": random.normal(size=count) * 10.0 ** random.integers(-3, 6),
            "whole": random.integers(-5, 500, count),
            "kind": random.choice(["a", "b", "c"], count),
            "flag": random.random(count) < 0.5,
            "gaps": np.where(random.random(count) < 0.3, np.nan, random.random(count)),
        }
    )
    suggested = steps.suggest_contract(rows)
    assert set(suggested) == set(rows.columns)
    steps.validate(rows, suggested)
    again = contracts.parse(contracts.write(suggested), "contract.toml")
    steps.validate(rows, again)


def test_a_pandera_schema_is_a_contract_too():
    pa = pytest.importorskip("pandera.pandas")
    schema = pa.DataFrameSchema({"age": pa.Column(float, pa.Check.in_range(0, 120)), "plan": pa.Column(str)})
    rows = customers().set_index(pd.Index(range(100, 140)))
    assert steps.validate(rows, schema) is rows
    rows.loc[103, "age"] = 200.0
    with pytest.raises(Invalid, match=r"'age' breaks .*1 rows \(3\)"):
        steps.validate(rows, schema)
    kept, refused = steps.quarantine(rows, schema)
    assert (len(kept), len(refused)) == (39, 1)
    with pytest.raises(Invalid, match="'plan'"):
        steps.quarantine(rows.drop(columns="plan"), schema)


def test_a_contract_that_is_not_there_or_torn_is_said(tmp_path: Path):
    with pytest.raises(NotFound, match="write_contract"):
        steps.validate(customers(), str(tmp_path / "none.toml"))
    (tmp_path / "torn.toml").write_text("[age]\nkind = 'number'\n")
    with pytest.raises(Invalid, match=r"torn\.toml"):
        steps.validate(customers(), str(tmp_path / "torn.toml"))
    with pytest.raises(Invalid, match="not int"):
        steps.validate(customers(), 5)


def test_a_value_that_comes_twice_breaks_a_unique_column():
    rows = pd.DataFrame({"id": [1.0, 2.0, 2.0, None, None, 1.0]})
    kept, refused = steps.quarantine(rows, {"id": contracts.Constraint("numeric", unique=True)})
    assert list(refused.index) == [0, 1] and list(refused["id"]) == [2.0, 1.0] and len(kept) == 4
    assert "'id' repeats, such as 2.0" in refused["broken"].iloc[0]
