"""A gateway's running totals at a few moments, from which pages tell rates."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

KEPT = 60
LEAST_MS = 500


@dataclass(frozen=True)
class Reading:
    """What a gateway had counted for one endpoint at a moment, by deployment."""

    at: int
    counted: dict[str, dict[str, Any]]

    @property
    def requests(self) -> int:
        return sum(held["requests"] for held in self.counted.values())


@dataclass
class Readings:
    """The newest readings of every endpoint that somebody looks at. Kept in memory: the totals are the gateway's."""

    held: dict[tuple[str, str], deque[Reading]] = field(default_factory=dict[tuple[str, str], "deque[Reading]"])

    def add(self, environment: str, name: str, reading: Reading) -> list[Reading]:
        """The readings so far, oldest first, with this one; a gateway that restarted begins anew."""
        kept = self.held.setdefault((environment, name), deque(maxlen=KEPT))
        if kept and reading.requests < kept[-1].requests:
            kept.clear()
        if not kept or reading.at - kept[-1].at >= LEAST_MS:
            kept.append(reading)
        return list(kept)
