"""Files that come in parts: each part is stored content of its own until the last one is there."""

import hashlib
import hmac
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.build.tracking import artifacts
from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id, new_token
from modelyard.store.objects.port import Blob
from modelyard.store.tables.tracking import upload_parts, uploads

VALID_MS = 24 * 3_600_000
"""How long parts may come, from the upload's beginning; afterwards it is given up."""
MOST_PARTS = 10_000
"""As many as S3 takes."""


@dataclass(frozen=True)
class Upload:
    """A file on its way to `path`; `done` says that it arrived."""

    id: str
    path: str
    parts: int
    author: str
    secret: str
    done: bool
    created_at: int

    def signature(self, number: int) -> str:
        """What shows that this server asked for part `number`: HMAC-SHA256 under the upload's own secret, in hex."""
        return hmac.new(self.secret.encode(), f"{self.id}/{number}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Part:
    number: int
    digest: str
    size: int


def begin(conn: Connection, path: str, parts: int, *, author: str) -> Upload:
    """A new upload to `path` in `parts` parts. Raises Invalid, and Conflict for a registered version's file."""
    if not 1 <= parts <= MOST_PARTS:
        raise Invalid(f"Invalid value {parts} for parameter 'num_parts' supplied. It must be 1 to {MOST_PARTS}.")
    path = artifacts.clean(path)
    artifacts.refuse_registered(conn, path)
    made = Upload(new_id(), path, parts, author, new_token(), False, now_ms())
    conn.execute(insert(uploads).values(**made.__dict__))
    return made


def find(conn: Connection, upload_id: str) -> Upload:
    """Raises NotFound, also for one that was given up."""
    row = conn.execute(select(uploads).where(uploads.c.id == upload_id)).first()
    if row is None:
        raise NotFound(f"There is no upload {upload_id[:64]!r}.", remedy="Begin the upload anew.")
    return _upload(row)


def of_author(conn: Connection, upload_id: str, path: str, author: str) -> Upload:
    """The upload, for who began it. Raises NotFound, Forbidden for others, Invalid when it goes to another path."""
    found = find(conn, upload_id)
    if found.author != author:
        raise Forbidden(f"The upload {upload_id} was begun by somebody else.", remedy="Begin one of your own.")
    if found.path != artifacts.clean(path):
        raise Invalid(f"The upload {upload_id} goes to {found.path!r}, not to {path[:200]!r}.")
    return found


def expecting(conn: Connection, upload_id: str, number: int, signature: str) -> Upload:
    """The upload that expects part `number` from who shows this signature.

    Raises Forbidden for a wrong or late signature, which is all that is told of an upload; Conflict when it is done.
    """
    row = conn.execute(select(uploads).where(uploads.c.id == upload_id)).first()
    found = _upload(row) if row else None
    if found is None or not hmac.compare_digest(found.signature(number).encode(), signature.encode()):
        raise Forbidden("The signature of this part's address is wrong.", remedy="Begin the upload anew.")
    if now_ms() - found.created_at > VALID_MS:
        raise Forbidden("The address of this part was valid for a day.", remedy="Begin the upload anew.")
    if found.done:
        raise Conflict(f"The upload {upload_id} is complete.", remedy="Begin another one.")
    return found


def take(conn: Connection, upload_id: str, number: int, blob: Blob) -> None:
    """Record a part that is stored; its former content is replaced. Raises NotFound when the upload was given up."""
    find(conn, upload_id)
    where = (upload_parts.c.upload == upload_id, upload_parts.c.number == number)
    conn.execute(delete(upload_parts).where(*where))
    conn.execute(insert(upload_parts).values(upload=upload_id, number=number, digest=blob.digest, size=blob.size))


def chosen(conn: Connection, upload: Upload, wanted: list[tuple[int, str]]) -> list[Part]:
    """The parts that make up the file: (number, digest) of each, in order.

    Raises Invalid when they are not in order, or one did not come or is another than was said.
    """
    numbers = [number for number, _ in wanted]
    if not numbers or any(later <= before for before, later in pairwise(numbers)):
        raise Invalid("'parts' must name every part once, in order.")
    query = select(upload_parts).where(upload_parts.c.upload == upload.id)
    held = {row.number: Part(row.number, row.digest, row.size) for row in conn.execute(query)}
    for number, digest in wanted:
        if number not in held or held[number].digest != digest:
            raise Invalid(f"Part {number} of the upload {upload.id} did not arrive as it was sent.")
    return [held[number] for number in numbers]


def finish(conn: Connection, upload_id: str, blob: Blob) -> None:
    """Record the file. Raises NotFound when the upload was given up meanwhile, Conflict as `artifacts.put` does."""
    found = find(conn, upload_id)
    artifacts.put(conn, found.path, blob)
    conn.execute(update(uploads).where(uploads.c.id == upload_id).values(done=True))
    conn.execute(delete(upload_parts).where(upload_parts.c.upload == upload_id))


def give_up(conn: Connection, upload_id: str) -> None:
    """Forget an upload; what came of it is collected, the file that it became stays."""
    conn.execute(delete(uploads).where(uploads.c.id == upload_id))


def give_up_old(conn: Connection, began_before: int) -> int:
    """Forget uploads that nobody ended, and the notes of finished ones; how many."""
    return conn.execute(delete(uploads).where(uploads.c.created_at <= began_before)).rowcount


def _upload(row: Row[Any]) -> Upload:
    return Upload(row.id, row.path, row.parts, row.author, row.secret, row.done, row.created_at)
