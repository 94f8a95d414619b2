"""Model cards and lineage, drawn from what is stored."""

from typing import Any

from sqlalchemy import Connection

from modelyard.registry import approvals, evidence, gates, versions
from modelyard.registry.versions import Version


def card(conn: Connection, version: Version) -> dict[str, Any]:
    """A model card draft: what it is, made from what, how good, on whom worse, who approved it."""
    name, number = version.model, version.version
    content = evidence.evaluation(conn, name, number) or {}
    return {
        "model": name,
        "version": number,
        "digest": version.digest,
        "description": version.description,
        "made": {"by": version.author or version.registrar, "at": version.created_at, **version.lineage},
        "evaluation": {key: content.get(key) for key in ("metrics", "standard_errors", "rows", "dataset")},
        "slices": content.get("slices", []),
        "gates": gates.newest(conn, name, number),
        "approvals": approvals.find(conn, name, number),
        "size_bytes": sum(file.size for file in versions.files(conn, name, number)),
        "lineage": lineage(version, content),
    }


def lineage(version: Version, content: dict[str, Any]) -> list[dict[str, str]]:
    """The chain dataset -> pipeline run -> run -> logged model -> version, as far as it is known."""
    chain = [
        ("dataset", content.get("dataset")),
        ("pipeline run", version.pipeline_run_id),
        ("run", version.run_id),
        ("logged model", version.model_id),
        ("version", f"{version.model}/{version.version}"),
    ]
    return [{"kind": kind, "id": str(identity)} for kind, identity in chain if identity]
