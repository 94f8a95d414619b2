"""A commit's status, told to its git host by the host's own API."""

from typing import Literal
from urllib.parse import quote

import msgspec

from modelyard.build.ci.webhooks import variable
from modelyard.domain.errors import Unavailable
from modelyard.domain.project import Repository

State = Literal["pending", "success", "failure"]
GITLAB = {"pending": "running", "success": "success", "failure": "failed"}
CONTEXT = "modelyard"
LONGEST = 140
"""Characters of a description that GitHub takes."""


def send(repository: Repository, commit: str, state: State, description: str) -> None:
    """Tell the host; without `api` nothing. Raises ConfigError without the token, Unavailable when it refuses."""
    if not repository.api:
        return
    import urllib3  # late: a server that watches no repository does without

    token = variable(repository.token, "Telling a commit's status")
    api, text = repository.api.rstrip("/"), description[:LONGEST]
    if repository.kind == "github":
        url, headers = f"{api}/statuses/{quote(commit)}", {"Authorization": f"Bearer {token}"}
        body = {"state": state, "context": CONTEXT, "description": text}
    else:
        url, headers = f"{api}/statuses/{quote(commit)}", {"PRIVATE-TOKEN": token}
        body = {"state": GITLAB[state], "name": CONTEXT, "description": text}
    headers |= {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "modelyard"}
    try:
        answer = urllib3.PoolManager(retries=False, timeout=15.0).request(
            "POST", url, body=msgspec.json.encode(body), headers=headers, redirect=False
        )
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"The git host does not answer: {error}.", remedy="See whether its API is up.") from error
    if answer.status >= 300:
        raise Unavailable(
            f"The git host refused the status of {commit[:10]} with {answer.status}.",
            remedy=f"Check the token in {repository.token} and the address {api}.",
        )
