"""Registering a version: where its files, author and lineage are looked up before the registry records it."""

from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import artifacts, logged_models, runs
from modelyard.build.tracking.runs import Run
from modelyard.domain.errors import Invalid, NotFound
from modelyard.domain.permissions import Principal
from modelyard.registry import versions
from modelyard.registry.versions import ManifestFile, Version

CODE_TAGS = {
    "commit": "mlflow.source.git.commit",
    "dirty": "modelyard.git.dirty",
    "environment": "modelyard.environment",
    "source": "mlflow.source.name",
}


def register(
    conn: Connection,
    name: str,
    source: str,
    *,
    actor: Principal,
    run_id: str | None = None,
    model_id: str | None = None,
    **details: Any,
) -> Version:
    """The new version of the files at `source`: models:/m-..., runs:/<id>/path or mlflow-artifacts:/path.

    Raises Invalid for any other place, and for a source that does not belong to the named run or model.
    """
    root, run_id, model_id = _locate(conn, source, run_id, model_id)
    files = [ManifestFile(item.path[len(root) + 1 :], item.digest, item.size) for item in artifacts.under(conn, root)]
    if run_id:
        run = runs.get(conn, run_id)
        details["author"] = details.get("author") or run.author
        details["lineage"] = details.get("lineage") or _noted(run)
    return versions.register(
        conn, name, files, actor=actor, source=source, run_id=run_id, model_id=model_id, **details
    )


def _noted(run: Run) -> dict[str, Any]:
    """What a run of a stock client tells of its code, environment and parameters."""
    code = {name: run.tags[tag] for name, tag in CODE_TAGS.items() if run.tags.get(tag)}
    return {"params": run.params, **({"code": code} if code else {})}


def _locate(
    conn: Connection, source: str, run_id: str | None, model_id: str | None
) -> tuple[str, str | None, str | None]:
    """(artifact root, run, logged model) of a source."""
    if source.startswith("models:/m-"):
        found = logged_models.get(conn, source.removeprefix("models:/").split("/")[0])
        return artifacts.model_root(found.experiment_id, found.id), found.run_id or run_id, found.id
    if source.startswith("runs:/"):
        named, _, path = source.removeprefix("runs:/").partition("/")
        row = runs.row_of(conn, named)
        root = f"{artifacts.run_root(row.experiment_id, named)}/{artifacts.clean(path)}"
        if artifacts.under(conn, root):
            return root, named, model_id
        return _by_name(conn, named, path), named, model_id
    if source.startswith(artifacts.SCHEME):
        root = artifacts.clean(source.removeprefix(artifacts.SCHEME))
        _check_owner(conn, root, run_id, model_id)
        parts = root.split("/")
        owner = parts[2] if len(parts) > 2 and parts[1] == "models" else model_id
        return root, run_id, owner
    raise Invalid(
        f"Invalid model version source: '{source[:200]}'.",
        remedy="Register from models:/m-..., runs:/<run id>/<path> or mlflow-artifacts:/<path>.",
    )


def _by_name(conn: Connection, run_id: str, path: str) -> str:
    """The files of the logged model that a run wrote under a name (MLflow 3 keeps them outside the run's folder)."""
    for model in reversed(logged_models.of_run(conn, run_id)):
        if model.name == path:
            return artifacts.model_root(model.experiment_id, model.id)
    raise NotFound(f"Run {run_id} wrote no model '{path}'.")


def _check_owner(conn: Connection, root: str, run_id: str | None, model_id: str | None) -> None:
    if model_id:
        model = logged_models.get(conn, model_id)
        allowed = artifacts.model_root(model.experiment_id, model.id)
    elif run_id:
        allowed = artifacts.run_root(runs.row_of(conn, run_id).experiment_id, run_id)
        if root.split("/")[1:2] == ["models"]:
            owner = logged_models.get(conn, root.split("/")[2])
            allowed = root if owner.run_id == run_id else allowed
    else:
        raise Invalid("A source in the artifact store needs its run_id or model_id.")
    if root != allowed and not root.startswith(allowed + "/"):
        raise Invalid(f"Invalid model version source: '{root[:200]}' does not belong to the run or logged model.")
