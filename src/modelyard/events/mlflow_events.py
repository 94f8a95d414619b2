"""Our events as MLflow's registry webhooks tell them: {entity, action, timestamp, data}."""

from typing import Any

from modelyard.events.log import Event
from modelyard.kit.clock import iso

ENTITIES = frozenset(
    {
        "registered_model.created",
        "model_version.created",
        "model_version_tag.set",
        "model_version_tag.deleted",
        "model_version_alias.created",
        "model_version_alias.deleted",
    }
)


def told_as_mlflow(event: Event) -> list[tuple[str, dict[str, Any]]]:
    """(entity.action, body) for each thing that the event is to MLflow; often none."""
    found: list[tuple[str, dict[str, Any]]] = []
    kind, _, rest = event.subject.partition("/")
    data = event.data
    if event.type == "model.created":
        told = {"name": rest, "tags": data.get("tags", {}), "description": data.get("description") or None}
        found.append(("registered_model.created", told))
    elif event.type == "version.registered":
        keys = ("source", "run", "tags", "description")
        source, run, tags, description = (data.get(key) for key in keys)
        told = {"name": data["model"], "version": str(data["version"]), "source": source, "run_id": run}
        found.append(("model_version.created", {**told, "tags": tags or {}, "description": description or None}))
    elif event.type == "alias.moved":
        told = {"name": data["model"], "alias": data["alias"]}
        if data["to"] is None:
            found.append(("model_version_alias.deleted", told))
        else:
            found.append(("model_version_alias.created", {**told, "version": str(data["to"])}))
    elif event.type == "version.changed" and kind == "version" and "tags" in data.get("after", {}):
        name, _, number = rest.rpartition("/")
        found += _tags({"name": name, "version": number}, data["before"]["tags"], data["after"]["tags"])
    return [(what, _body(what, event.time, told)) for what, told in found]


def _tags(version: dict[str, Any], before: dict[str, str], after: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    changed = [(key, value) for key, value in after.items() if before.get(key) != value]
    gone = [key for key in before if key not in after]
    return [
        *(("model_version_tag.set", {**version, "key": key, "value": value}) for key, value in changed),
        *(("model_version_tag.deleted", {**version, "key": key}) for key in gone),
    ]


def _body(what: str, time: int, told: dict[str, Any]) -> dict[str, Any]:
    entity, _, action = what.partition(".")
    return {"entity": entity, "action": action, "timestamp": iso(time), "data": told}
