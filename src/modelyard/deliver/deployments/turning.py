"""Where a rollback leads, by the routing file alone; apart from `offline`, which takes a command a while to load."""

from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.deployments import places
from modelyard.domain.errors import Conflict, Forbidden, Unavailable

Route = dict[str, Any]
"""A route of the routing file."""


def leads_to(home: Path, environment: str, name: str) -> int | None:
    """The version that a rollback would give the traffic to now; None where this machine's files do not tell.

    Who asks the server and gets no answer asks here again, for this version: it may have been done.
    """
    try:
        back, _ = turn(read(home, environment, "routing")["endpoints"][name]["routes"], f"{environment}/{name}")
    except (Conflict, Forbidden, Unavailable, KeyError):
        return None
    return back["version"] if back else None


def turn(held: list[Route], where: str) -> tuple[Route | None, list[Route]]:
    """(who gets all the traffic, who loses it): the live one when a rollout shares it, or else the one before."""
    by_role = {target["role"]: target for target in held}
    sharing = [target for target in held if target["weight"] > 0]
    coming = by_role.get("next")
    back = by_role.get("live" if coming is not None and coming in sharing else "previous")
    if back is None or (back in sharing and len(sharing) == 1):
        raise Conflict(
            f"{where} has no warm deployment to go back to.",
            remedy="Start the server (modelyard up) and deploy an approved version.",
        )
    if back is by_role.get("previous") and not back.get("approved", True):
        raise Forbidden(
            f"v{back['version']}, where {where} would go back to, has lost its approval.",
            remedy="With the server up an approver may say otherwise: modelyard approve ... --break-glass",
        )
    return back, [target for target in sharing if target is not back]


def read(home: Path, environment: str, name: str) -> dict[str, Any]:
    """A file of an environment's gateway on this machine. Raises Unavailable."""
    try:
        return msgspec.json.decode((places.serving(home, environment) / f"{name}.json").read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise Unavailable(
            f"Neither the server nor the files of {environment}'s gateway are here.",
            remedy="Run this on the machine of the gateway, in the project's folder.",
        ) from error
