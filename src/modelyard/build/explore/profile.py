"""What a table holds: kinds, missing values, distributions, correlations, and what would mislead a model."""

from typing import Any

from modelyard.kit.ranking import roc_auc

BINS = 20
TOP = 10
CATEGORIES = 50
"""A column of text or whole numbers with at most this many values is a category."""
STRONG = 0.9
LEAK = 0.98
MOST_PAIRS = 5
MOST_CORRELATED = 40
"""Columns whose correlations are looked at; pairs grow with the square."""


def profile(frame: Any, target: str | None = None) -> dict[str, Any]:
    """The profile as JSON values. `hints` says in words what to look at before training."""
    columns = [column(frame[name]) for name in frame.columns]
    pairs = correlations(frame, columns)
    found: dict[str, Any] = {
        "rows": len(frame),
        "duplicate_rows": int(frame.astype(str).duplicated().sum()),
        "columns": columns,
        "correlations": pairs,
        "target": target_profile(frame, target) if target else None,
    }
    found["hints"] = hints(found, frame, target)
    return found


def kind_of(values: Any) -> str:
    """number, category, text, time or truth."""
    import pandas as pd  # late: importing explore must not load it

    if pd.api.types.is_bool_dtype(values):
        return "truth"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "time"
    if pd.api.types.is_numeric_dtype(values):
        return "number"
    try:
        distinct = values.nunique()
    except TypeError:  # lists and other values that cannot be hashed
        return "text"
    return "category" if distinct <= max(CATEGORIES, len(values) // 100) else "text"


def column(values: Any) -> dict[str, Any]:
    """One column: kind, missing share, distinct values, and its distribution."""
    kind = kind_of(values)
    present = values.dropna()
    try:
        distinct = int(present.nunique())
    except TypeError:
        distinct = int(present.astype(str).nunique())
    found: dict[str, Any] = {
        "name": str(values.name),
        "kind": kind,
        "type": str(values.dtype),
        "missing": float(values.isna().mean()),
        "distinct": distinct,
    }
    if kind == "number" and len(present):
        found |= _numbers(present)
    elif kind == "time" and len(present):
        found |= {"min": str(present.min()), "max": str(present.max())}
    elif len(present):
        counts = present.astype(str).value_counts().head(TOP)
        found["top"] = [
            {"value": str(value)[:80], "share": float(count / len(present))} for value, count in counts.items()
        ]
    return found


def _numbers(present: Any) -> dict[str, Any]:
    import numpy as np  # late: see above

    values = present.to_numpy(float)
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    low, middle, high = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    counts, edges = np.histogram(values, bins=BINS)
    reach = 1.5 * (high - low)
    return {
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "min": float(values.min()),
        "q25": low,
        "median": middle,
        "q75": high,
        "max": float(values.max()),
        "zeros": float((values == 0).mean()),
        "outliers": float(((values < low - reach) | (values > high + reach)).mean()),
        "histogram": {"counts": [int(count) for count in counts], "edges": [float(edge) for edge in edges]},
    }


def correlations(frame: Any, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pairs of numbers by the size of their rank correlation (Spearman), the strongest first."""
    names = [item["name"] for item in columns if item["kind"] == "number" and item["distinct"] > 1][:MOST_CORRELATED]
    if len(names) < 2:
        return []
    matrix = frame[names].rank().corr().to_numpy()
    pairs = [
        {"first": names[i], "second": names[j], "correlation": float(matrix[i, j])}
        for i in range(len(names))
        for j in range(i)
        if matrix[i, j] == matrix[i, j]
    ]
    return sorted(pairs, key=lambda pair: -abs(pair["correlation"]))[:TOP]


def task_of(values: Any) -> str:
    """binary, multiclass or regression, by the target's values."""
    distinct = values.nunique()
    if distinct == 2:
        return "binary"
    return "regression" if kind_of(values) == "number" and distinct > 20 else "multiclass"


def target_profile(frame: Any, target: str) -> dict[str, Any]:
    """The task that a target makes, and how its classes are balanced."""
    values = frame[target].dropna()
    task = task_of(values)
    shares = {} if task == "regression" else values.astype(str).value_counts(normalize=True).head(TOP).to_dict()
    missing = float(frame[target].isna().mean())
    found = suspects(frame, target, task)
    return {"name": target, "task": task, "missing": missing, "shares": shares, "suspects": found}


def hints(found: dict[str, Any], frame: Any, target: str | None) -> list[dict[str, str]]:
    """What to look at, each with what to do: {column, hint, remedy}."""
    told: list[dict[str, str]] = _target_hints(found, frame, target) if target is not None else []
    rows = found["rows"]
    for item in found["columns"]:
        name = item["name"]
        if name == target:
            continue
        if item["distinct"] <= 1:
            told.append(_hint(name, "holds one value", "Leave it out: it says nothing."))
        elif item["missing"] > 0.5:
            told.append(
                _hint(name, f"is missing in {item['missing']:.0%} of the rows", "Find out why before using it.")
            )
        elif item["distinct"] == rows and rows > 50 and item["kind"] != "time" and _is_identifier(frame[name]):
            told.append(
                _hint(name, "differs in every row, as an identifier does", "Leave it out: it is learnt by heart.")
            )
    for pair in found["correlations"][:MOST_PAIRS]:
        if abs(pair["correlation"]) > STRONG and target not in (pair["first"], pair["second"]):
            words = f"goes with {pair['second']} (rank correlation {pair['correlation']:+.2f})"
            told.append(_hint(pair["first"], words, "One of the two may be enough."))
    return told


def _target_hints(found: dict[str, Any], frame: Any, target: str) -> list[dict[str, str]]:
    told: list[dict[str, str]] = []
    shares = found["target"]["shares"]
    if shares and min(shares.values()) < 0.05:
        rare = min(shares, key=lambda value: shares[value])
        words = f"has the rare class {rare!r} ({shares[rare]:.1%})"
        told.append(_hint(target, words, "Judge by average precision or the Brier score, not by accuracy."))
    if found["target"]["missing"]:
        told.append(
            _hint(target, f"is missing in {found['target']['missing']:.1%} of the rows", "Those rows teach nothing.")
        )
    for name, strength in found["target"]["suspects"].items():
        words = f"alone foretells {target} almost perfectly ({strength:.3f} of 1)"
        told.append(_hint(name, words, "Is it known when the prediction is made? If not, leave it out."))
    return told


def suspects(frame: Any, target: str, task: str) -> dict[str, float]:
    """Columns that alone foretell the target almost perfectly, each with how well."""
    strengths = {str(name): foretells(frame[name], frame[target], task) for name in frame.columns if name != target}
    return {name: strength for name, strength in strengths.items() if strength is not None and strength > LEAK}


def foretells(values: Any, target: Any, task: str) -> float | None:
    """How well one column alone orders the target, 0..1 by rank; None where it cannot be told."""
    import numpy as np  # late: see above
    import pandas as pd

    both = pd.DataFrame({"x": values, "y": target}).dropna()
    if len(both) < 50 or both["x"].nunique() < 2:
        return None
    codes = both["x"].to_numpy(float) if kind_of(both["x"]) in ("number", "truth") else None
    if task == "binary":
        truth = (both["y"] == both["y"].iloc[0]).to_numpy().astype(int)
        if codes is None:
            if both["x"].nunique() > CATEGORIES:
                return None
            codes = pd.Series(truth).groupby(both["x"].astype(str).to_numpy()).transform("mean").to_numpy()
        auc = roc_auc(truth, codes) if 0 < truth.sum() < len(truth) else 0.5
        return float(max(auc, 1 - auc))
    if task == "regression" and codes is not None:
        ranks = pd.DataFrame({"x": codes, "y": both["y"].to_numpy(float)}).rank()
        return float(abs(np.corrcoef(ranks["x"], ranks["y"])[0, 1]))
    return None


def _is_identifier(values: Any) -> bool:
    import pandas as pd  # late: see above

    return not pd.api.types.is_float_dtype(values)


def _hint(column: str, hint: str, remedy: str) -> dict[str, str]:
    return {"column": column, "hint": hint, "remedy": remedy}
