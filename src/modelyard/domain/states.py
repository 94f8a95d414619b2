"""States and their legal transitions, one table a noun."""

from collections.abc import Mapping
from enum import StrEnum

from modelyard.domain.errors import Conflict


class VersionState(StrEnum):
    """A version's standing in one environment."""

    CANDIDATE = "candidate"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    RETIRED = "retired"


class ApprovalState(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    VOID = "void"


class RolloutState(StrEnum):
    """pending -> starting (workers warm up) -> shifting (traffic moves) -> completed, or aborted."""

    PENDING = "pending"
    STARTING = "starting"
    SHIFTING = "shifting"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"


class AlertState(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    MUTED = "muted"


V, A, R, L = VersionState, ApprovalState, RolloutState, AlertState

TRANSITIONS: Mapping[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]]] = {
    VersionState: {
        V.CANDIDATE: frozenset({V.PENDING, V.APPROVED, V.REJECTED, V.RETIRED}),
        V.PENDING: frozenset({V.APPROVED, V.REJECTED, V.CANDIDATE, V.RETIRED}),
        V.APPROVED: frozenset({V.RETIRED, V.CANDIDATE}),
        V.REJECTED: frozenset({V.PENDING, V.RETIRED}),
        V.RETIRED: frozenset(),
    },
    ApprovalState: {
        A.OPEN: frozenset({A.APPROVED, A.REJECTED, A.VOID}),
        A.APPROVED: frozenset({A.VOID}),
        A.REJECTED: frozenset(),
        A.VOID: frozenset(),
    },
    RolloutState: {
        R.PENDING: frozenset({R.STARTING, R.ABORTED}),
        R.STARTING: frozenset({R.SHIFTING, R.COMPLETED, R.ABORTED}),
        R.SHIFTING: frozenset({R.PAUSED, R.COMPLETED, R.ABORTED}),
        R.PAUSED: frozenset({R.SHIFTING, R.COMPLETED, R.ABORTED}),
        R.COMPLETED: frozenset(),
        R.ABORTED: frozenset(),
    },
    AlertState: {
        L.OPEN: frozenset({L.ACKNOWLEDGED, L.RESOLVED, L.MUTED}),
        L.ACKNOWLEDGED: frozenset({L.RESOLVED, L.MUTED}),
        L.MUTED: frozenset({L.OPEN, L.RESOLVED}),
        L.RESOLVED: frozenset(),
    },
}


def check_transition(noun: str, before: StrEnum, after: StrEnum) -> None:
    """Raise Conflict unless the table allows `before` -> `after`; names what is allowed."""
    allowed = TRANSITIONS[type(before)][before]
    if after not in allowed:
        names = ", ".join(sorted(allowed)) or "nothing: it is final"
        raise Conflict(
            f"{noun} is {before} and cannot become {after}.", remedy=f"From {before} it may become: {names}."
        )
