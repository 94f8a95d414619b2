"""Asynchronous requests at rest: one SQLite file beside the routing, so that `kill -9` loses none that was accepted.

Every call is one transaction on the disk when it returns. The calls come from one thread.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.kit.clock import now_ms

TABLES = """
create table if not exists requests (
    id text primary key, endpoint text not null, principal text not null, state text not null,
    path text not null, headers text not null, body blob, size integer not null,
    queued_at integer not null, due_at integer not null, attempts integer not null default 0,
    status integer, answer_headers text, answer blob, expires_at integer not null, located text
) strict;
create index if not exists due on requests (endpoint, state, due_at);
create index if not exists expiring on requests (expires_at);
"""
QUEUED, RUNNING, DONE = "queued", "running", "done"


class Full(Exception):
    """The endpoint's queue holds as many requests, or as many bytes, as it may."""


@dataclass(frozen=True)
class Waiting:
    """A request as it was accepted; times in milliseconds since the epoch.

    located: where its input comes from and its answer goes, where those are objects of a store; answered: it is
    only to be delivered.
    """

    id: str
    endpoint: str
    path: str
    headers: str
    body: bytes
    attempts: int
    queued_at: int
    located: str | None
    answered: bool


class WaitingStore:
    """Closed with `close`; another process that opens the file afterwards finds everything that was accepted."""

    def __init__(self, file: Path) -> None:
        file.touch(mode=0o600)
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.executescript("pragma journal_mode=wal; pragma synchronous=full; pragma secure_delete=on;" + TABLES)
        if "located" not in {row[1] for row in self._db.execute("pragma table_info(requests)")}:
            self._db.execute("alter table requests add column located text")
        self._change("update requests set state = ? where state = ?", QUEUED, RUNNING)

    def close(self) -> None:
        self._db.close()

    def add(
        self,
        identity: str,
        endpoint: str,
        principal: str,
        path: str,
        headers: str,
        body: bytes,
        most: tuple[int, int],
        expires_at: int,
        located: str | None = None,
    ) -> None:
        """Put a request on the disk. `most`: requests and bytes that may wait. Raises Full."""
        asked = "select count(*), coalesce(sum(size), 0) from requests where endpoint = ? and state <> ?"
        count, size = self._db.execute(asked, (endpoint, DONE)).fetchone()
        if count >= most[0] or size + len(body) > most[1]:
            raise Full
        now = now_ms()
        columns = "id, endpoint, principal, state, path, headers, body, size, queued_at, due_at, expires_at, located"
        values = (
            identity,
            endpoint,
            principal,
            QUEUED,
            path,
            headers,
            body,
            len(body),
            now,
            now,
            expires_at,
            located,
        )
        self._change(f"insert into requests ({columns}) values ({', '.join('?' * 12)})", *values)

    def take(self, endpoint: str) -> Waiting | None:
        """The request that is due first, marked as running; None when none is due."""
        columns = "id, endpoint, path, headers, body, attempts + 1, queued_at, located, status is not null"
        where = "where endpoint = ? and state = ? and due_at <= ? order by due_at, rowid limit 1"
        row = self._db.execute(f"select {columns} from requests {where}", (endpoint, QUEUED, now_ms())).fetchone()
        if row is None:
            return None
        self._change("update requests set state = ?, attempts = attempts + 1 where id = ?", RUNNING, row[0])
        return Waiting(*row[:-1], answered=bool(row[-1]))

    def put_back(self, identity: str, pause_ms: int, *, counted: bool) -> None:
        """Have it taken again after a pause; an attempt that is not `counted` was none."""
        change = "update requests set state = ?, due_at = ?, attempts = attempts - ? where id = ? and state = ?"
        self._change(change, QUEUED, now_ms() + pause_ms, 0 if counted else 1, identity, RUNNING)

    def hold(self, identity: str, status: int, headers: str, body: bytes) -> None:
        """Keep the answer to what runs, which is still to be delivered; the request's body is gone with it."""
        values = "status = ?, answer_headers = ?, answer = ?, body = x'', size = 0"
        self._change(f"update requests set {values} where id = ?", status, headers, body, identity)

    def finish(self, identity: str, status: int, headers: str, body: bytes, expires_at: int) -> None:
        """Keep the answer until it expires; the request's body is gone with it."""
        values = "state = ?, status = ?, answer_headers = ?, answer = ?, expires_at = ?, body = null, size = 0"
        self._change(f"update requests set {values} where id = ?", DONE, status, headers, body, expires_at, identity)

    def shown(self, endpoint: str, principal: str, identity: str) -> dict[str, Any] | None:
        """What its caller is told; None for one that is not there, or another's."""
        asked = "select id, state, status, queued_at, attempts, expires_at, located from requests"
        row = self._db.execute(
            f"{asked} where id = ? and endpoint = ? and principal = ?", (identity, endpoint, principal)
        )
        found = row.fetchone()
        names = ("id", "state", "status", "queued_at", "attempts", "expires_at", "located")
        return dict(zip(names, found, strict=True)) if found else None

    def answer(self, identity: str, state: str = DONE) -> tuple[int, str, bytes] | None:
        """(status, headers, body) of what is done, or of what is held to be delivered."""
        asked = "select status, answer_headers, answer from requests where id = ? and state = ?"
        return self._db.execute(asked, (identity, state)).fetchone()

    def forget(self, identity: str) -> None:
        self._change("delete from requests where id = ?", identity)

    def expire(self) -> None:
        """Forget what is older than its time, unless it is being answered."""
        self._change("delete from requests where expires_at < ? and state <> ?", now_ms(), RUNNING)

    def lengths(self) -> dict[str, int]:
        """How many requests wait or run, by endpoint."""
        asked = "select endpoint, count(*) from requests where state <> ? group by endpoint"
        return dict(self._db.execute(asked, (DONE,)).fetchall())

    def _change(self, statement: str, *values: Any) -> None:
        self._db.execute(statement, values)
