"""Input contracts between Parquet files."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from modelyard.build.ci import contracts
from modelyard.build.ci.context import Champion, Context
from modelyard.build.ci.rehearsal import Rehearsal


def write(path: Path, **columns: object) -> Path:
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_what_callers_do_not_send_and_what_changed_kind_is_named(tmp_path: Path):
    before = write(tmp_path / "before.parquet", x=[1.0], carrier=["AA"], gone=[1], prediction=[0.5], label=[1])
    after = write(tmp_path / "after.parquet", x=[1], carrier=[3], seats=[100], label=[1])
    assert contracts.differences(contracts.columns(before), contracts.columns(after)) == [
        "column 'carrier' was text and is now number",
        "column 'seats' (number) is needed and was not before",
    ]


def test_a_broken_contract_fails_and_names_the_champion(tmp_path: Path, context: Callable[..., Context]):
    before = write(tmp_path / "before.parquet", x=[1.0])
    after = write(tmp_path / "after.parquet", x=["one"])
    champion = Champion(3, {}, tmp_path, before)
    made = context(champions={"late": champion}, champions_known=True)
    made.rehearsals["pipeline.py:main"] = Rehearsal("pipeline.py:main", references={"late": str(after)})
    (found,) = contracts.check(made).findings
    assert "champion v3" in found.message
    made.rehearsals["pipeline.py:main"].references["late"] = str(before)
    assert contracts.check(made).findings == []


def test_without_a_yard_nothing_is_claimed(context: Callable[..., Context]):
    assert contracts.check(context()).skipped
