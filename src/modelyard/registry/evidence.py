"""Evidence: what decisions are based on, attached to a version by digest."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import digest_json
from modelyard.kit.ids import new_id
from modelyard.registry import versions
from modelyard.store.tables.registry import evidence

EVALUATION = "evaluation"


@dataclass(frozen=True)
class Evidence:
    id: str
    kind: str
    digest: str
    content: dict[str, Any]
    attached_by: str
    created_at: int


def attach(
    conn: Connection,
    name: str,
    number: int,
    kind: str,
    content: dict[str, Any],
    *,
    actor: str,
    cause: str | None = None,
) -> log.Event | None:
    """The event of the attachment; None when the same content was attached already.

    Evaluation content: {"metrics": {name: value}, "standard_errors": {name: value}, "rows": int, "dataset": digest,
    "slices": [{"by", "value", "rows", "metrics"}], "reference": path or None, "champion": None or {"version",
    "metrics", "difference": {name: {"value", "low", "high"}}}}.
    """
    version = versions.get(conn, name, number)
    digest = digest_json(content)
    held = [item for item in of_version(conn, name, number, kind) if item.digest == digest]
    if held:
        return None
    conn.execute(
        insert(evidence).values(
            id=new_id(),
            model=name,
            version=number,
            kind=kind,
            digest=digest,
            content=content,
            attached_by=actor,
            created_at=now_ms(),
        )
    )
    data = {"model": name, "version": number, "kind": kind, "digest": digest}
    return log.append(conn, "evidence.attached", version.subject, actor, data, cause=cause or version.event_id)


def of_version(conn: Connection, name: str, number: int, kind: str | None = None) -> list[Evidence]:
    """A version's evidence, newest first."""
    query = select(evidence).where(evidence.c.model == name, evidence.c.version == number)
    if kind is not None:
        query = query.where(evidence.c.kind == kind)
    query = query.order_by(evidence.c.created_at.desc(), evidence.c.id)
    return [
        Evidence(row.id, row.kind, row.digest, row.content, row.attached_by, row.created_at)
        for row in conn.execute(query)
    ]


def evaluation(conn: Connection, name: str, number: int) -> dict[str, Any] | None:
    """The newest evaluation's content."""
    found = of_version(conn, name, number, EVALUATION)
    return found[0].content if found else None


def whole_digest(conn: Connection, name: str, number: int) -> str:
    """The digest of everything attached: what an approval is bound to."""
    return digest_json(sorted(item.digest for item in of_version(conn, name, number)))
