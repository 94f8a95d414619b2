"""One exploration: a table's profile and, for a target, the candidates; as JSON values."""

from collections.abc import Callable
from typing import Any

from modelyard.build.explore.leaderboard import leaderboard
from modelyard.build.explore.profile import profile
from modelyard.build.explore.reading import read
from modelyard.domain.errors import Invalid


def explore(
    source: str,
    target: str | None,
    most_rows: int,
    budget_s: float,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """{source, total_rows, whole, profile, leaderboard}. Raises Invalid for a target that there is not."""
    sample = read(source, most_rows)
    if target is not None and target not in sample.frame.columns:
        known = ", ".join(map(str, sample.frame.columns[:30]))
        raise Invalid(f"{source} has no column {target!r}.", remedy=f"Columns: {known}.")
    if target is not None and sample.frame[target].nunique() < 2:
        raise Invalid(f"{target!r} holds one value only.", remedy="Name a target that varies.")
    described = profile(sample.frame, target)
    board = None
    if target is not None:
        board = leaderboard(sample.frame, target, budget_s, list(described["target"]["suspects"]), progress)
    return {
        "source": sample.name,
        "total_rows": sample.total_rows,
        "whole": sample.whole,
        "profile": described,
        "leaderboard": board,
    }
