"""Lineage of a version: from the data it was made of to where it serves, from what is stored."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select

from modelyard.registry import evidence
from modelyard.registry.versions import Version
from modelyard.store.tables.delivery import deployments
from modelyard.store.tables.pipelines import pipeline_runs
from modelyard.store.tables.tracking import run_inputs, runs

ORDER = ("dataset", "code", "environment", "pipeline run", "run", "logged model", "version", "deployment")


@dataclass(frozen=True)
class Node:
    id: str
    kind: str
    label: str


def graph(conn: Connection, version: Version) -> dict[str, Any]:
    """{"nodes": [{id, kind, label}], "edges": [{from, to, how}]}; every edge points from cause to result."""
    nodes: dict[str, Node] = {}
    edges: list[dict[str, str]] = []

    def node(kind: str, key: object, label: str = "") -> str:
        made = f"{kind}:{key}"
        nodes.setdefault(made, Node(made, kind, label or str(key)))
        return made

    def edge(source: str, target: str, how: str) -> None:
        edges.append({"from": source, "to": target, "how": how})

    own = node("version", f"{version.model}/{version.version}")
    maker = _makers(conn, version, own, node, edge)
    code = version.lineage.get("code", {})
    if code.get("commit"):
        edge(node("code", code["commit"], str(code["commit"])[:12]), maker, "ran in")
    if code.get("environment"):
        edge(node("environment", code["environment"], str(code["environment"])[:12]), maker, "held the libraries of")
    if version.lineage.get("parent"):
        edge(node("version", f"{version.model}/{version.lineage['parent']}"), own, "was champion before")
    content = evidence.evaluation(conn, version.model, version.version) or {}
    if content.get("dataset"):
        edge(node("dataset", content["dataset"], f"evaluation rows {content['dataset'][:12]}"), own, "evaluated on")
    compared = content.get("champion") or {}
    if compared.get("version"):
        edge(node("version", f"{version.model}/{compared['version']}"), own, "compared with")
    query = select(deployments).where(deployments.c.model == version.model, deployments.c.version == version.version)
    for row in conn.execute(query.order_by(deployments.c.created_at)):
        place = f"{row.environment}/{row.endpoint} ({row.state})"
        edge(own, node("deployment", row.id, place), "deployed as")
    shown = sorted(nodes.values(), key=lambda item: (ORDER.index(item.kind), item.id))
    return {"nodes": [asdict(item) for item in shown], "edges": edges}


def _makers(conn: Connection, version: Version, own: str, node: Any, edge: Any) -> str:
    """Add what made the version; the first of it that is known."""
    maker = own
    if version.model_id:
        made = node("logged model", version.model_id, version.model_id[:14])
        edge(made, maker, "registered as")
        maker = made
    if version.run_id:
        row = conn.execute(select(runs.c.num, runs.c.name).where(runs.c.id == version.run_id)).first()
        made = node("run", version.run_id, (row.name if row else "") or version.run_id[:12])
        edge(made, maker, "logged")
        maker = made
        if row is not None:
            where = (run_inputs.c.run == row.num, run_inputs.c.kind == "dataset")
            for item in conn.execute(select(run_inputs.c.name, run_inputs.c.digest).where(*where)):
                edge(node("dataset", item.digest, f"{item.name} {item.digest[:12]}"), maker, "read by")
    if version.pipeline_run_id:
        query = select(pipeline_runs.c.pipeline).where(pipeline_runs.c.id == version.pipeline_run_id)
        named = conn.execute(query).scalar()
        made = node("pipeline run", version.pipeline_run_id, named or version.pipeline_run_id[:12])
        edge(made, maker, "tracked as")
        maker = made
    return maker
