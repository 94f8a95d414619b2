"""The world outside: clients that send flights to the endpoint, and the delays that become known later."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pandas as pd
import urllib3

BATCH = 50
SENDERS = 4


@dataclass
class Sent:
    """What came back: for each answered row its prediction id and probability; requests by version and status."""

    ids: list[str] = field(default_factory=list[str])
    scores: list[float] = field(default_factory=list[float])
    rows: list[int] = field(default_factory=list[int])
    statuses: "Counter[tuple[str, int]]" = field(default_factory=Counter)

    def failed(self) -> int:
        """Requests that did not get an answer with status 200."""
        return sum(count for (_, status), count in self.statuses.items() if status != 200)

    def versions(self) -> dict[str, int]:
        """Requests by the version that answered."""
        found: Counter[str] = Counter()
        for (version, _), count in self.statuses.items():
            found[version] += count
        return dict(found)


class Traffic:
    """A client of one endpoint, with a token that may invoke it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._pool = urllib3.PoolManager(maxsize=SENDERS * 2, retries=False, timeout=urllib3.Timeout(30))
        self._lock = threading.Lock()

    def send(self, frame: pd.DataFrame, batch: int = BATCH, sent: Sent | None = None) -> Sent:
        """Send every row, `batch` rows a request, from SENDERS connections."""
        result = sent or Sent()
        with ThreadPoolExecutor(SENDERS) as senders:
            for _ in senders.map(lambda part: self._post(part[0], part[1], result), _parts(frame, batch)):
                pass
        return result

    def flow(self, frame: pd.DataFrame, batch: int = 1) -> "Flow":
        """Traffic that goes on, round and round over `frame`, until it is stopped."""
        return Flow(self, frame, batch)

    def _post(self, start: int, body: bytes, result: Sent) -> None:
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=self._headers)
        except urllib3.exceptions.HTTPError:  # no answer at all: a failed request, counted as such
            with self._lock:
                result.statuses["none", 0] += 1
            return
        version = answer.headers.get("X-Modelyard-Version", "none")
        scores: list[float] = []
        if answer.status == 200:
            predictions = msgspec.json.decode(answer.data)["predictions"]
            scores = [float(row[-1] if isinstance(row, list) else row) for row in predictions]
        request_id = answer.headers.get("X-Prediction-Id", "")
        with self._lock:
            result.statuses[version, answer.status] += 1
            for offset, score in enumerate(scores):
                result.ids.append(f"{request_id}:{offset}")
                result.scores.append(score)
                result.rows.append(start + offset)


class Flow:
    """Traffic in the background: a context manager that counts what it sent."""

    def __init__(self, traffic: Traffic, frame: pd.DataFrame, batch: int) -> None:
        self.sent = Sent()
        self._traffic, self._frame, self._batch = traffic, frame, batch
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(SENDERS)]

    def __enter__(self) -> "Flow":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        parts = list(_parts(self._frame, self._batch))[number::SENDERS]
        turn = 0
        while not self._stop.is_set():
            start, body = parts[turn % len(parts)]
            self._traffic._post(start, body, self.sent)  # pyright: ignore[reportPrivateUsage] - one noun, two classes
            turn += 1
            self._stop.wait(0.02)


def _parts(frame: pd.DataFrame, batch: int) -> Iterator[tuple[int, bytes]]:
    columns = list(frame.columns)
    values: list[list[Any]] = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    for start in range(0, len(values), batch):
        body = {"dataframe_split": {"columns": columns, "data": values[start : start + batch]}}
        yield start, msgspec.json.encode(body)
