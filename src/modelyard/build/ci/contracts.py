"""Data contracts: what callers of the champion send must still be what the candidate takes."""

from pathlib import Path

from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Case, Finding, Outcome, Severity, skipped
from modelyard.domain.contracts import OUTPUTS


def check(context: Context) -> Outcome:
    """Every input column of the champion is an input of the candidate, with the same kind of values."""
    if not context.champions_known:
        return skipped("no yard was asked for its champions")
    references = {model: path for run in context.rehearsals.values() for model, path in run.references.items()}
    compared = [model for model in references if model in context.champions]
    if not compared:
        return skipped("there is no champion to keep a contract with")
    findings: list[Finding] = []
    cases: list[Case] = []
    for model in compared:
        held = context.champions[model].reference
        if held is None:
            continue
        broken = differences(columns(held), columns(Path(references[model])))
        version = context.champions[model].version
        for text in broken:
            message = f"{model}: {text}, compared with champion v{version}."
            remedy = "Take the column as before, or move its callers first and register under another model name."
            findings.append(Finding("contract-broken", Severity.ERROR, message, remedy))
        cases.append(Case(f"{model} against v{version}", failure="; ".join(broken) or None))
    kept = sum(case.failure is None for case in cases)
    return Outcome(f"{kept} of {len(cases)} input contracts kept", findings, cases)


def columns(parquet: Path) -> dict[str, str]:
    """By input column the kind of its values: number, text, truth, time or another Arrow type; reads no data."""
    import pyarrow as pa  # late: only this check reads schemas
    import pyarrow.parquet as pq

    found: dict[str, str] = {}
    for field in pq.read_schema(parquet):
        kinds = {
            "number": pa.types.is_integer(field.type) or pa.types.is_floating(field.type),
            "text": pa.types.is_string(field.type) or pa.types.is_large_string(field.type),
            "truth": pa.types.is_boolean(field.type),
            "time": pa.types.is_temporal(field.type),
        }
        if field.name not in OUTPUTS:
            found[field.name] = next((name for name, holds in kinds.items() if holds), str(field.type))
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What callers of the model before would notice: columns that changed kind or that they do not send."""
    changed = [
        f"column {name!r} was {kind} and is now {after[name]}"
        for name, kind in before.items()
        if name in after and after[name] != kind
    ]
    needed = [
        f"column {name!r} ({kind}) is needed and was not before" for name, kind in after.items() if name not in before
    ]
    return changed + needed
