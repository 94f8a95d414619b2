"""Where a version's files come from: what a source means, and whether it belongs to the run or model named."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection

from modelyard.build.tracking import artifacts, logged_models, runs
from modelyard.domain.errors import Invalid
from modelyard.registry import versions
from modelyard.registry.models import PROMPT_TAG
from modelyard.registry.versions import ManifestFile

LOGGED_MODEL = re.compile(r"models:/m-[0-9a-f]{32}(/|$)")
OURS = ("file", "models", "runs", artifacts.SCHEME.rstrip(":/"))
LOCAL = (
    "To use a local path as a model version source, the run_id request parameter has to be specified and the local "
    "path has to be contained within the artifact directory of the run specified by the run_id."
)
RELATIVE = (
    "If supplying a source as an http, https, local file path, ftp, objectstore, or mlflow-artifacts uri, an "
    "absolute path must be provided without relative path references present. Please provide an absolute path."
)
PROMPT_SOURCES = ("dummy-source", "prompt-template")
"""What MLflow's clients write where a prompt, being text in a tag, has no files."""


@dataclass(frozen=True)
class Origin:
    """Where a version's files come from, and what they belong to."""

    files: list[ManifestFile]
    run_id: str | None
    model_id: str | None
    location: str | None = None
    """Where the files are, for a source that names a model instead of a place."""


def find(
    conn: Connection, source: str, *, run_id: str | None, model_id: str | None, tags: dict[str, str], bare: bool
) -> Origin:
    """The origin of a new version with these `tags`; `bare` and the errors are those of `registration.register`."""
    if tags.get(PROMPT_TAG) != "true":
        _check_path(source)
    if bare and (_is_elsewhere(source, tags) or _lies_with(conn, source, run_id, model_id)):
        return Origin([], run_id, model_id)
    if source.startswith("models:/") and not LOGGED_MODEL.match(source):
        return _registered(conn, source)
    if bare and run_id and source.startswith(f"runs:/{run_id}/") and runs.find(conn, run_id) is None:
        return Origin([], run_id, model_id)
    return _located(conn, source, run_id, model_id)


def _check_path(source: str) -> None:
    """Raises Invalid for a source with '.', '..' or a zero in it, however often it was quoted."""
    plain = source
    while (read := unquote(plain)) != plain:
        plain = read
    if "\x00" in plain or {".", ".."} & set(plain.split("/")):
        raise Invalid(f"Invalid model version source: '{source[:200]}'. {RELATIVE}")


def _is_elsewhere(source: str, tags: dict[str, str]) -> bool:
    """Whether a source names no place of this yard. Raises Invalid for a prompt that names one, and for odd URIs."""
    if tags.get(PROMPT_TAG) == "true":
        if source not in PROMPT_SOURCES:
            raise Invalid(f"Invalid prompt source: '{source[:200]}'. Prompt sources must use an MLflow placeholder.")
        return True
    parts = urlsplit(source)
    if len(parts.scheme) < 2 or parts.scheme in OURS:
        return False
    if parts.scheme in ("http", "https"):
        raise _invalid(source)
    return True


def _lies_with(conn: Connection, source: str, run_id: str | None, model_id: str | None) -> bool:
    """Whether a source is where the named run or logged model keeps its files outside this server."""
    run = runs.find(conn, run_id) if run_id else None
    owners = [run.elsewhere] if run else []
    owners += [logged_models.get(conn, model_id).elsewhere] if model_id else []
    return any(owner and (source == owner or source.startswith(owner + "/")) for owner in owners)


def _registered(conn: Connection, source: str) -> Origin:
    """The files of a registered version: models:/name/3, or models:/name@alias."""
    inner = source.removeprefix("models:/")
    name, _, reference = inner.partition("@") if "@" in inner else inner.rpartition("/")
    if not name or not reference:
        raise _invalid(source)
    if "@" in inner and reference not in {"latest", *versions.aliases_of(conn, name)}:
        raise Invalid(f"Registered model alias {reference} not found.")
    found = versions.resolve(conn, name, reference)
    files = versions.files(conn, found.model, found.version)
    return Origin(files, found.run_id, found.model_id, found.location or found.source)


def _located(conn: Connection, source: str, run_id: str | None, model_id: str | None) -> Origin:
    root, run_id, model_id = _locate(conn, source, run_id, model_id)
    held = artifacts.under(conn, root)
    files = [ManifestFile(item.path[len(root) + 1 :], item.digest, item.size) for item in held]
    location = logged_models.get(conn, model_id).location if model_id and source.startswith("models:/") else None
    return Origin(files, run_id, model_id, location)


def _locate(
    conn: Connection, source: str, run_id: str | None, model_id: str | None
) -> tuple[str, str | None, str | None]:
    """(artifact root, run, logged model) of a source."""
    if source.startswith("models:/"):
        found = logged_models.get(conn, source.removeprefix("models:/").split("/")[0])
        if model_id and model_id != found.id:
            raise _misplaced(source, "model_id")
        return artifacts.model_root(found.experiment_id, found.id), found.run_id or run_id, found.id
    if source.startswith("runs:/"):
        named, _, path = source.removeprefix("runs:/").partition("/")
        if run_id and run_id != named:
            raise _misplaced(source, "run_id")
        row = runs.row_of(conn, named)
        root = f"{artifacts.run_root(row.experiment_id, named)}/{artifacts.clean(path)}"
        if not artifacts.under(conn, root):
            root = _by_name(conn, named, path) or root
        return root, named, model_id
    if source.startswith(artifacts.SCHEME) and not urlsplit(source).netloc:
        root = artifacts.clean(re.sub("/+", "/", source.removeprefix(artifacts.SCHEME)))
        _check_owner(conn, source, root, run_id, model_id)
        owner = _model_in(root) or model_id
        return root, run_id or (logged_models.get(conn, owner).run_id if owner else None), owner
    raise _invalid(source)


def _model_in(root: str) -> str | None:
    """The id of the logged model whose files a path is among."""
    parts = root.split("/")
    return parts[2] if len(parts) > 2 and parts[1] == "models" else None


def _invalid(source: str) -> Invalid:
    said = f"Invalid model version source: '{source[:200]}'."
    if urlsplit(source).scheme in ("", "file"):
        return Invalid(f"{said} {LOCAL}")
    return Invalid(
        said, remedy="Use models:/m-..., models:/<name>/<version>, runs:/<run id>/<path> or mlflow-artifacts:/<path>."
    )


def _misplaced(source: str, key: str) -> Invalid:
    return Invalid(
        f"Invalid model version source: '{source[:200]}'. "
        f"The {key} request parameter must identify the resource that contains the source."
    )


def _by_name(conn: Connection, run_id: str, path: str) -> str | None:
    """The files of the logged model that a run wrote under a name (MLflow 3 keeps them outside the run's folder)."""
    for model in reversed(logged_models.of_run(conn, run_id)):
        if model.name == path:
            return artifacts.model_root(model.experiment_id, model.id)
    return None


def _check_owner(conn: Connection, source: str, root: str, run_id: str | None, model_id: str | None) -> None:
    if model_id:
        model = logged_models.get(conn, model_id)
        allowed = artifacts.model_root(model.experiment_id, model.id)
    elif run_id:
        allowed = artifacts.run_root(runs.row_of(conn, run_id).experiment_id, run_id)
        if (named := _model_in(root)) is not None:
            owner = logged_models.get(conn, named)
            allowed = artifacts.model_root(owner.experiment_id, owner.id) if owner.run_id == run_id else allowed
    else:
        raise _misplaced(source, "run_id")
    if root != allowed and not root.startswith(allowed + "/"):
        raise _misplaced(source, "model_id" if model_id else "run_id")
