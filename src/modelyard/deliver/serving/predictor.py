"""One loaded model behind a queue: requests are parsed as they come, and what waits is predicted in one call.

There is no timer: a call takes what arrived while the one before ran, so a lone request waits for nobody. A call's
rows are bounded by the time that calls take; calls that take long run in a thread, so that the loop stays awake.
"""

import asyncio
import logging
import secrets
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.deliver.serving import mlflow_scoring, open_inference, tabular, typed_rows, unfit
from modelyard.deliver.serving.compiled import compile_signature
from modelyard.deliver.serving.errors import BadInput, Declined, error_body
from modelyard.deliver.serving.frames import AnswerMeta, RequestMeta
from modelyard.deliver.serving.loading import Loaded
from modelyard.deliver.serving.parsed import Answer, Parsed, part, rows_of
from modelyard.deliver.serving.paths import Asked
from modelyard.deliver.serving.statistics import Tally

CALL_S = 0.05
"""A call should not take longer than this: batches shrink until it does not."""
THREAD_S = 0.02
"""Calls that take longer leave the loop for a thread."""
Reply = Callable[[AnswerMeta, bytes], None]
logger = logging.getLogger("modelyard.worker")


@dataclass(slots=True)
class Waiting:
    """A parsed request; times by the performance counter."""

    path: str
    parsed: Parsed
    reply: Reply
    arrived: float
    queued: float
    deadline: float


Outcome = Answer | BadInput | str
"""An answer, what the caller must change, or the message of a failure."""


class Predictor:
    """Takes requests, replies to each."""

    def __init__(self, loaded: Loaded, model: str, version: str, max_batch_rows: int = 4096) -> None:
        self.loaded, self.model, self.version = loaded, model, version
        self.tally = Tally()
        as_it_is = loaded.takes_matrix or not loaded.signature.all_numeric
        self._compiled = compile_signature(loaded.signature) if as_it_is else None
        self._most = self._limit = max_batch_rows if loaded.vectorised else 1
        self._waiting: deque[Waiting] = deque()
        self._scheduled = self._busy = False
        self._quick = 0
        """Rows that a call predicted quickly; larger calls leave the loop for a thread, as does the first."""
        self._thread: ThreadPoolExecutor | None = None

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._busy

    def take(self, asked: Asked, meta: RequestMeta, body: bytes, reply: Reply) -> None:
        """Queue a request to predict; a body that does not fit is answered at once."""
        arrived = time.perf_counter()
        try:
            parsed = self._parse(asked, meta, body)
        except BadInput as error:
            parse_us = int((time.perf_counter() - arrived) * 1e6)
            self.tally.fail.note(parse_us / 1e6)
            told = AnswerMeta(error.status, parse_us=parse_us, declined=isinstance(error, Declined))
            reply(told, error_body(meta.path, error.status, str(error)))
            return
        except Exception as error:  # noqa: BLE001 - a body nobody foresaw costs itself, not its neighbours
            reply(AnswerMeta(500), error_body(meta.path, 500, _logged(error, "Reading the request failed")))
            return
        queued = time.perf_counter()
        deadline = arrived + meta.patience_ms / 1000 if meta.patience_ms else float("inf")
        self._waiting.append(Waiting(meta.path, parsed, reply, arrived, queued, deadline))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _parse(self, asked: Asked, meta: RequestMeta, body: bytes) -> Parsed:
        parsed = self._read(asked, meta, body)
        if meta.accept and asked.kind == "score":
            parsed.answer = tabular.writer(meta.accept) or parsed.answer
        return parsed

    def _read(self, asked: Asked, meta: RequestMeta, body: bytes) -> Parsed:
        if asked.model not in (None, self.model) or asked.version not in (None, self.version):
            raise BadInput(f"This is {self.model} version {self.version}; {meta.path!r} names another.", 404)
        signature = self.loaded.signature
        if asked.kind == "infer":
            return self._as_matrix(
                open_inference.parse_v2(body, signature, self.model, self.version, meta.json_length)
            )
        if asked.kind == "typed":
            return self._as_matrix(typed_rows.parse_typed(body, meta.type, signature))
        if self._compiled is not None and meta.type in ("application/json", ""):
            found = self._compiled.decode(body)
            if found is not None:
                return found
        return self._as_matrix(mlflow_scoring.parse_invocation(body, meta.type, signature))

    def _as_matrix(self, parsed: Parsed) -> Parsed:
        if self.loaded.takes_matrix and parsed.matrix is None:
            parsed.matrix = self.loaded.signature.matrix(parsed.columns)
        return parsed

    def _turn(self) -> None:
        """Predict what waits; what is not known to be quick is predicted in a thread, one call at a time."""
        self._scheduled = False
        while self._waiting and not self._busy:
            batch = self._batch()
            if not batch:
                continue
            if sum(item.parsed.rows for item in batch) > self._quick:
                self._busy = True
                self._thread = self._thread or ThreadPoolExecutor(1)
                future = asyncio.get_running_loop().run_in_executor(self._thread, self._outcomes, batch)
                future.add_done_callback(lambda done, batch=batch: self._came_back(batch, done.result()))
                return
            self._send(batch, *self._outcomes(batch))

    def _came_back(self, batch: list[Waiting], found: tuple[list[Outcome], float, float]) -> None:
        self._busy = False
        self._send(batch, *found)
        self._turn()

    def _batch(self) -> list[Waiting]:
        """The next requests that may share a call; those that nobody waits for any more are let go."""
        batch: list[Waiting] = []
        rows, now = 0, time.perf_counter()
        while self._waiting:
            item = self._waiting[0]
            if item.deadline < now:
                self._waiting.popleft()
                self.tally.fail.note(now - item.arrived)
                item.reply(AnswerMeta(504), error_body(item.path, 504, "The request waited too long."))
                continue
            alone = item.parsed.params is not None
            if batch and (rows + item.parsed.rows > self._most or alone):
                break
            batch.append(self._waiting.popleft())
            rows += item.parsed.rows
            if alone:
                break
        return batch

    def _outcomes(self, batch: list[Waiting]) -> tuple[list[Outcome], float, float]:
        """(outcome for each, when the call started, seconds that it took)."""
        started = time.perf_counter()
        try:
            outcomes: list[Outcome] = [*self._answers([item.parsed for item in batch])]
        except Exception as error:  # noqa: BLE001 - a model may raise anything; it is answered with an id
            if len(batch) > 1:  # one bad request must not fail its neighbours: each on its own
                outcomes = [self._outcomes([item])[0][0] for item in batch]
            else:
                refused = error if isinstance(error, BadInput) else self._unfit(batch[0].parsed, error)
                if refused is not None and batch[0].path == "predict":
                    refused.status = typed_rows.STATUS
                outcomes = [refused or _logged(error, "The model raised an error")]
        return outcomes, started, time.perf_counter() - started

    def _unfit(self, parsed: Parsed, error: Exception) -> BadInput | None:
        """What the caller must change where the model raised; None for a failure of its own."""
        signature, params = self.loaded.signature, parsed.params or {}
        return unfit.found(parsed, signature, error) or unfit.without_text(
            parsed, signature, lambda given: self.loaded.predict(given, **params)
        )

    def _answers(self, parts: list[Parsed]) -> list[Answer]:
        full = [item for item in parts if item.rows]
        if not full:
            return [item.answer([]) for item in parts]
        predictions = self.loaded.predict(_merged(full), **(full[0].params or {}))
        total, found = sum(item.rows for item in full), rows_of(predictions)
        if found != total:  # a word, a forecast: nobody can tell whose is what, so from now on each is asked alone
            self._most = self._limit = 1
        if len(full) == 1 and (found in (total, None) or total == 1 or not self.loaded.vectorised):
            return [item.answer(predictions if item.rows else []) for item in parts]
        if found != total:
            raise ValueError(f"the model answered {found} rows for {total}")
        answers: list[Answer] = []
        start = 0
        for item in parts:
            end = start + item.rows
            answers.append(item.answer(part(predictions, start, end) if item.rows else []))
            start = end
        return answers

    def _send(self, batch: list[Waiting], outcomes: list[Outcome], started: float, took: float) -> None:
        rows = sum(item.parsed.rows for item in batch)
        self._adapt(rows, took)
        tally, predict_us = self.tally, int(took * 1e6)
        tally.last = int(time.time() * 1000)
        if not all(isinstance(outcome, str | BadInput) for outcome in outcomes):
            tally.called(rows, sum(item.queued - item.arrived for item in batch), took)
        for item, outcome in zip(batch, outcomes, strict=True):
            parse_s, queue_s = item.queued - item.arrived, started - item.queued
            times = int(parse_s * 1e6), int(queue_s * 1e6), predict_us
            tally.parse.note(parse_s)
            tally.queue.note(queue_s)
            tally.predict.note(took)
            if isinstance(outcome, str | BadInput):
                tally.fail.note(parse_s + queue_s + took)
                status = 500 if isinstance(outcome, str) else outcome.status
                told = AnswerMeta(status, "application/json", None, *times, isinstance(outcome, Declined))
                item.reply(told, error_body(item.path, status, str(outcome)))
            else:
                tally.rows += item.parsed.rows
                tally.success.note(parse_s + queue_s + took)
                item.reply(AnswerMeta(200, outcome.type, outcome.json_length, *times), outcome.body)

    def _adapt(self, rows: int, took: float) -> None:
        """Halve the rows of a call that took too long, let them grow again while calls are quick."""
        if took > (THREAD_S / 2 if rows > self._quick else THREAD_S):
            self._quick = min(self._quick, rows // 2)
        else:
            self._quick = max(self._quick, rows)
        if took > CALL_S and rows > 1:
            self._most = max(1, min(self._most, rows) // 2)
        elif took < CALL_S / 2 and self._most < self._limit:
            self._most = min(self._limit, self._most * 2)


def _logged(error: Exception, what: str) -> str:
    """The message for the caller; the trace goes to the log under the same id."""
    error_id = secrets.token_hex(6)
    logger.error("error %s: %s", error_id, "".join(traceback.format_exception(error)))
    return f"{what} (id {error_id}); its trace is in the worker's log."


def _merged(parts: list[Parsed]) -> Any:
    """The rows of several requests as one input."""
    if len(parts) == 1:
        return parts[0].matrix if parts[0].matrix is not None else parts[0].columns
    if parts[0].matrix is not None:
        return np.concatenate([item.matrix for item in parts])
    merged: dict[str, Any] = {}
    for name, values in parts[0].columns.items():
        if isinstance(values, list):
            merged[name] = [value for item in parts for value in item.columns[name]]
        else:
            merged[name] = np.concatenate([item.columns[name] for item in parts])
    return merged
