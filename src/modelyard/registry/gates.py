"""Gates: automatic checks that a version must pass, on its own and against the champion on the same data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from modelyard.domain.metrics import by_group, lower_is_better
from modelyard.domain.project import Gate, Project
from modelyard.events import log
from modelyard.events.log import Event
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.registry import evidence, versions
from modelyard.store.tables.registry import gate_results


@dataclass(frozen=True)
class GateResult:
    """One bound of one gate: what was asked, what was found, whether it holds, and why in words."""

    gate: str
    bound: str
    limit: float
    value: float | None
    champion: float | None
    passed: bool
    why: str


def evaluate(gates: Mapping[str, Gate], evaluation: Mapping[str, Any] | None) -> list[GateResult]:
    """Every bound of every gate against an evaluation; a metric that nobody logged fails its gate, and says so."""
    metrics: Mapping[str, float] = (evaluation or {}).get("metrics", {})
    champion: Mapping[str, Any] = (evaluation or {}).get("champion") or {}
    results: list[GateResult] = []
    for name, gate in gates.items():
        metric = by_group(name, gate.by)
        value = metrics.get(metric)
        for bound in ("min", "max", "max_regression"):
            limit: float | None = getattr(gate, bound)
            if limit is None:
                continue
            if value is None:
                known = ", ".join(sorted(metrics)) or "none"
                why = f"{metric} was not logged by the evaluation; it has: {known}"
                results.append(GateResult(metric, bound, limit, None, None, False, why))
            elif bound == "max_regression":
                results.append(_regression(metric, limit, value, champion))
            else:
                passed = value >= limit if bound == "min" else value <= limit
                sign = (">=" if bound == "min" else "<=") if passed else ("<" if bound == "min" else ">")
                why = f"{metric} {value:.4g} {sign} {limit:g}"
                results.append(GateResult(metric, bound, limit, value, None, passed, why))
    return results


def _regression(metric: str, limit: float, value: float, champion: Mapping[str, Any]) -> GateResult:
    held = champion.get("metrics", {}).get(metric)
    if held is None:
        why = "no champion to compare with" if not champion else f"the champion has no {metric} on this data"
        return GateResult(metric, "max_regression", limit, value, None, not champion, why)
    worse = value - held if lower_is_better(metric) else held - value
    relation = "worse" if worse > 0 else "better"
    why = f"{metric} {value:.4g} is {abs(worse):.4g} {relation} than champion v{champion.get('version')}'s {held:.4g}"
    return GateResult(metric, "max_regression", limit, value, held, worse <= limit, f"{why} on the same data")


def record(conn: Connection, project: Project, name: str, number: int, cause: str | None) -> Event:
    """Evaluate the model's gates on the newest evidence, record the results, and say gates.passed or gates.failed."""
    declared = project.models.get(name)
    results = evaluate(declared.gates if declared else {}, evidence.evaluation(conn, name, number))
    passed = all(result.passed for result in results)
    shown = [result.__dict__ for result in results]
    conn.execute(
        insert(gate_results).values(
            id=new_id(),
            model=name,
            version=number,
            evidence_digest=evidence.whole_digest(conn, name, number),
            passed=passed,
            results=shown,
            created_at=now_ms(),
        )
    )
    data: dict[str, Any] = {"model": name, "version": number, "results": shown}
    if not passed:
        data["reason"] = "; ".join(result.why for result in results if not result.passed)
    kind = "gates.passed" if passed else "gates.failed"
    return log.append(conn, kind, versions.get(conn, name, number).subject, "modelyard", data, cause=cause)


def newest(conn: Connection, name: str, number: int) -> dict[str, Any] | None:
    """The newest verdict: {passed, results, evidence_digest, created_at}."""
    query = select(gate_results).where(gate_results.c.model == name, gate_results.c.version == number)
    row = conn.execute(query.order_by(gate_results.c.created_at.desc(), gate_results.c.id).limit(1)).first()
    if row is None:
        return None
    keys = ("passed", "results", "evidence_digest", "created_at")
    return {key: getattr(row, key) for key in keys}
