"""Repositories: their signed webhooks, and what their commits led to."""

from typing import Any

from modelyard.build.ci import commit_runs, webhooks
from modelyard.domain.errors import NotFound, TooLarge
from modelyard.domain.permissions import Permission
from modelyard.domain.project import Repository
from modelyard.server.routes import Call, Route

LARGEST = 25 << 20
"""Bytes: the most that GitHub sends."""


async def receive(call: Call) -> Any:
    """A git host's push. The signature stands in for a token; other events and branches are answered and ignored."""
    name, repository = _repository(call)
    body = await _raw(call)
    headers = dict(call.request.headers)
    webhooks.check_signature(name, repository, headers, body)
    push = webhooks.read_push(repository, headers, body)
    if push is None:
        return {"commit_run": None, "why": "not a push to a branch"}
    if push.branch != repository.branch:
        return {"commit_run": None, "why": f"only {repository.branch} is run, not {push.branch}"}
    made = await call.yard.store.write(lambda conn: commit_runs.receive(conn, name, push))
    return {"commit_run": made, "why": "" if made else "this push was received before"}


async def list_repositories(call: Call) -> Any:
    """The declared repositories with their newest commit runs."""
    declared = call.yard.project.repositories

    def shown(name: str, repository: Repository) -> dict[str, Any]:
        return {"name": name, "url": repository.url, "kind": repository.kind, "branch": repository.branch}

    found = await call.yard.store.read(
        lambda conn: {name: commit_runs.of_repository(conn, name) for name in declared}
    )
    return {"repositories": [{**shown(name, declared[name]), "commit_runs": runs} for name, runs in found.items()]}


def _repository(call: Call) -> tuple[str, Repository]:
    name = call.path["name"]
    found = call.yard.project.repositories.get(name)
    if found is None:
        raise NotFound("There is no such repository.", remedy="Declare it: [repositories.NAME] in modelyard.toml.")
    return name, found


async def _raw(call: Call) -> bytes:
    """The body byte by byte as it was signed. Raises TooLarge."""
    chunks, size = list[bytes](), 0
    async for chunk in call.request.stream():
        size += len(chunk)
        if size > LARGEST:
            raise TooLarge(f"The body is larger than {LARGEST} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


ROUTES = [
    Route("POST", "/api/v1/repositories/{name}/webhook", Permission.PUBLIC, receive, stream=True),
    Route("GET", "/api/v1/repositories", Permission.PIPELINES_READ, list_repositories),
]
