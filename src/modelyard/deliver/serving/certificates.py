"""Certificates in force: replaced files are taken for new connections, and what is to be said of them is told."""

import asyncio
import logging
import os
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from modelyard.deliver.serving.stats import family
from modelyard.deliver.serving.tls import TlsFiles
from modelyard.domain.errors import ConfigError
from modelyard.kit import x509
from modelyard.kit.clock import iso, now_ms

LOOK_S = 2.0
"""How often the files are looked at."""
START_S = 5.0
"""How long a process that starts waits for files that do not fit: somebody may be renewing them."""
DAY_MS = 86_400_000
WARN_DAYS = (30, 7, 0)
"""How long before a certificate ends it is said; once more when it has ended."""
T = TypeVar("T")
Marks = tuple[tuple[int, int, int], ...]
logger = logging.getLogger("modelyard.certificates")


@dataclass(frozen=True)
class Ending:
    """`at`: when connections begin to fail, in milliseconds: the chain's first end, or the last authority's."""

    file: str
    use: Literal["certificate", "client_ca"]
    at: int


@dataclass(frozen=True)
class InForce:
    """What one reading of the files gave."""

    marks: Marks
    context: ssl.SSLContext
    certificate: bytes
    key: bytes
    client_ca: bytes | None
    endings: tuple[Ending, ...]


class Telling(ssl.SSLObject):
    """A server's end of a connection: whom it refuses is told why, and counted by reason.

    Event loops close a connection whose handshake failed without having sent the alert. One more turn sends it.
    """

    refused: ClassVar[Counter[str]] = Counter()
    _failed = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if self._failed:
                raise
            self._failed = True
            reason = getattr(error, "verify_message", "") or error.reason or "unknown"
            self.refused[reason] += 1
            if self.refused[reason] == 1:
                logger.warning("a caller was refused: %s; further ones are counted in /metrics", reason)
            raise ssl.SSLWantReadError from error


class Renewing(ssl.SSLContext):
    """What a listening server holds: each connection begins with the context that is in force by then."""

    current: ssl.SSLContext

    def wrap_bio(self, *given: Any, **named: Any) -> ssl.SSLObject:
        self.current.sslobject_class = Telling
        return self.current.wrap_bio(*given, **named)


def _nothing(before: InForce, after: InForce) -> None:
    pass


class Certificates:
    """A server's TLS files. What does not fit leaves in force what was there, and is told in `refused`."""

    def __init__(
        self,
        files: TlsFiles,
        where: str,
        renewed: Callable[[InForce, InForce], None] = _nothing,
        patience_s: float = 0.0,
    ) -> None:
        """`renewed` is called before others are in force. Raises ConfigError for files that do not fit in time."""
        self.files, self._where, self._renewed = files, where, renewed
        self.held = awaited(lambda: _read(files, where), patience_s)
        self.context = Renewing(ssl.PROTOCOL_TLS_SERVER)
        self.context.current = self.held.context
        self.refused, self._refused_at = "", 0
        self._unfit: Marks | None = None

    async def keep(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Take replaced files into force. What does not fit may be half of a pair: it is told at the next look."""
        marks = _marks(self.files)
        if marks == self.held.marks:
            self.refused, self._unfit = "", None
            return
        try:
            fresh = _read(self.files, self._where)
            if fresh.endings[0].at < now_ms() < self.held.endings[0].at:
                raise ConfigError(f"{self._where}: {fresh.endings[0].file} has ended, and the one in force has not.")
            self._renewed(self.held, fresh)
        except (ConfigError, OSError) as error:
            if marks == self._unfit:
                self._refuse(str(error))
            self._unfit = marks
            return
        self.held, self.refused, self._unfit = fresh, "", None
        self.context.current = fresh.context
        logger.warning("%s: renewed; %s", self._where, "; ".join(f"{e.file} ends {iso(e.at)}" for e in fresh.endings))

    def _refuse(self, why: str) -> None:
        if why != self.refused:
            self.refused, self._refused_at = why, now_ms()
            logger.error("the certificate from before stays in force: %s", why)

    def told(self) -> dict[str, Any]:
        """What `warnings` and events are made of."""
        endings = [{"file": ending.file, "use": ending.use, "ends_at": ending.at} for ending in self.held.endings]
        return {"refused": self.refused, "refused_at": self._refused_at, "files": endings}


def awaited(read: Callable[[], T], patience_s: float = START_S) -> T:
    """What `read` makes of the files, as soon as they fit. Raises its ConfigError when they do not in time."""
    deadline, said = time.monotonic() + patience_s, ""
    while True:
        try:
            return read()
        except ConfigError as error:
            if time.monotonic() >= deadline:
                raise
            if error.message != said:
                said = error.message
                logger.warning("%s It is waited for up to %g s, in case it is being renewed.", said, patience_s)
        time.sleep(0.1)


def _read(files: TlsFiles, where: str) -> InForce:
    """One reading. Raises ConfigError, also where a file is replaced while they are read."""
    marks = _marks(files)
    context = files.context(where)
    try:
        certificate, key, *more = [file.read_bytes() for file in files.every]
        endings = [Ending(str(files.certificate), "certificate", min(_ends(certificate)))]
        if files.client_ca is not None:
            endings.append(Ending(str(files.client_ca), "client_ca", max(_ends(more[0]))))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {error}.", remedy="Name PEM files.") from error
    if marks != _marks(files):
        raise ConfigError(f"{where}: the files are being replaced.", remedy="They are read again.")
    return InForce(marks, context, certificate, key, more[0] if more else None, tuple(endings))


def _ends(pem: bytes) -> list[int]:
    found = [x509.ends_at(certificate) for certificate in x509.certificates(pem.decode(errors="replace"))]
    if not found:
        raise ValueError("no BEGIN CERTIFICATE is in it")
    return found


def _marks(files: TlsFiles) -> Marks:
    """What tells a replaced file; nothing while one is missing."""
    try:
        found = [os.stat(file) for file in files.every]
    except OSError:
        return ()
    return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in found)


def days_left(ends_at: int, now: int) -> int | None:
    """Which of WARN_DAYS has come; None while there is more time."""
    return next((days for days in reversed(WARN_DAYS) if ends_at - now <= days * DAY_MS), None)


def warnings(told: Mapping[str, Any] | None, now: int) -> list[str]:
    """Sentences on what `told` of a server's certificates needs somebody's attention."""
    if not told:
        return []
    found = [f"the certificate from before stays in force: {told['refused']}"] if told["refused"] else []
    for ending in told["files"]:
        left, at = ending["ends_at"] - now, iso(ending["ends_at"])
        if left <= 0:
            whom = "clients refuse it" if ending["use"] == "certificate" else "no caller's certificate is taken"
            found.append(f"{ending['file']} ended {at}: {whom}")
        elif days_left(ending["ends_at"], now) is not None:
            found.append(f"{ending['file']} ends in {left / DAY_MS:.0f} days, {at}")
    return found


def metrics(told: Mapping[str, Any]) -> str:
    """The same in Prometheus' text format."""
    ends = {f'use="{ending["use"]}"': ending["ends_at"] / 1000 for ending in told["files"]}
    return (
        family("modelyard_certificate_end_timestamp_seconds", "gauge", "When a certificate in force ends.", ends)
        + family(
            "modelyard_certificate_refused",
            "gauge",
            "Whether replaced files do not fit, so that those from before stay in force.",
            {"": int(bool(told["refused"]))},
        )
        + family(
            "modelyard_tls_refused_total",
            "counter",
            "Connections whose handshake failed, by the reason that the caller was told.",
            {f'reason="{reason}"': count for reason, count in Telling.refused.items()},
        )
    )
