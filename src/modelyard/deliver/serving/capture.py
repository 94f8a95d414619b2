"""The prediction logs of a gateway's endpoints: what is taken, what is left out, when an answer has to wait."""

import asyncio
from pathlib import Path

from modelyard.deliver.serving.prediction_log import PredictionLog, Record
from modelyard.deliver.serving.routing import LogPolicy, Routing

SHADOW = "shadow"
"""The folder below a log that holds what shadow deployments answered, under the ids of the primary's answers."""


class Captures:
    """One log for each endpoint that has a policy, and one for its shadows once they answer."""

    def __init__(self) -> None:
        self._logs: dict[str, PredictionLog] = {}
        self._shadow_logs: dict[str, PredictionLog] = {}
        self._policies: dict[str, LogPolicy] = {}
        self._columns: dict[str, dict[str, tuple[str, ...]]] = {}
        self._taking: dict[str, tuple[PredictionLog, float]] = {}
        """The log of each endpoint, and the share of its answers that it takes."""
        self._keepers: set[asyncio.Task[None]] = set()
        self.error = ""

    def adopt(self, routing: Routing) -> None:
        """Follow the routing; a log whose folder cannot be made is named in `error` and tried again next time."""
        self.error = ""
        self._policies = {name: one.log for name, one in routing.endpoints.items() if one.log is not None}
        self._columns = {
            name: {target.deployment: target.columns for target in (*one.routes, *one.shadow)}
            for name, one in routing.endpoints.items()
        }
        self._taking = {}
        for name, policy in self._policies.items():
            log = self._logs.get(name) or self._open(self._logs, name, Path(policy.folder))
            if log is not None:
                self._leave_out(name, log)
                self._taking[name] = log, policy.sample

    def _open(self, logs: dict[str, PredictionLog], name: str, folder: Path) -> PredictionLog | None:
        try:
            log = logs[name] = PredictionLog(folder)
        except OSError as error:
            self.error = f"The prediction log {folder} cannot be opened: {error.strerror or error}."
            return None
        keeper = asyncio.ensure_future(log.keep())
        self._keepers.add(keeper)
        keeper.add_done_callback(self._keepers.discard)
        return log

    def _leave_out(self, name: str, log: PredictionLog) -> None:
        log.redact, log.columns = self._policies[name].redact, self._columns[name]

    def take(self, name: str, record: Record) -> None:
        """Log an answer if the endpoint's policy wants it."""
        taking = self._taking.get(name)
        if taking is not None and (taking[1] >= 1 or _sampled(record, taking[1])):
            taking[0].add(record)

    def take_shadow(self, name: str, record: Record) -> None:
        """Log a shadow's answer."""
        policy = self._policies.get(name)
        if policy is None or not _sampled(record, policy.sample):
            return
        log = self._shadow_logs.get(name) or self._open(self._shadow_logs, name, Path(policy.folder) / SHADOW)
        if log is not None:
            self._leave_out(name, log)
            log.add(record)

    def waits(self, name: str) -> bool:
        """Whether answers of an endpoint wait for their record on the disk."""
        policy = self._policies.get(name)
        return policy is not None and policy.capture == "durable"

    def durable(self, name: str) -> "asyncio.Future[None] | None":
        """What an answer must wait for: the record on the disk; None where the policy does not ask for it."""
        if not self.waits(name):
            return None
        log = self._logs.get(name)
        return log.durable() if log is not None else None

    def dropped(self) -> dict[str, int]:
        """How many answers each log could not take, those of shadows among them."""
        return {name: sum(log.dropped for log in self._both(name)) for name in self._logs}

    def errors(self) -> dict[str, str]:
        """Why logs cannot be written at present, by endpoint."""
        found = {name: next((log.error for log in self._both(name) if log.error), "") for name in self._logs}
        return {name: error for name, error in found.items() if error}

    def _both(self, name: str) -> list[PredictionLog]:
        return [logs[name] for logs in (self._logs, self._shadow_logs) if name in logs]

    def close(self) -> None:
        """Seal the logs."""
        for keeper in self._keepers:
            keeper.cancel()
        for log in (*self._logs.values(), *self._shadow_logs.values()):
            log.close()


def _sampled(record: Record, share: float) -> bool:
    """Whether a record belongs to the sample: by its id, so that a shadow's answer follows its primary's."""
    return share >= 1 or int(record.id[:8], 16) < share * 2**32
