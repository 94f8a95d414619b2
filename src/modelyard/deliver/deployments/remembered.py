"""What a process remembers of the rollouts that it sees, as long as they are under way."""

from typing import Generic, TypeVar

from modelyard.deliver.deployments.records import Rollout

T = TypeVar("T")


class Remembered(Generic[T]):
    """One thing for each endpoint's rollout, at a point of it; what was said of another point or rollout is gone."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[tuple[str, int | None], T]] = {}

    def get(self, rollout: Rollout, at: int | None = None) -> T | None:
        point, value = self._held.get(rollout.subject, (None, None))
        return value if point == (rollout.id, at) else None

    def put(self, rollout: Rollout, value: T, at: int | None = None) -> None:
        self._held[rollout.subject] = ((rollout.id, at), value)

    def forget(self, rollout: Rollout) -> None:
        self._held.pop(rollout.subject, None)

    def __len__(self) -> int:
        return len(self._held)
