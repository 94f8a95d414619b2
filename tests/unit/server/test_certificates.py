"""Events on certificates that end or were refused: each is told once."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from modelyard.deliver.deployments import agents
from modelyard.deliver.deployments.agents import Report
from modelyard.deliver.serving.certificates import DAY_MS, Certificates
from modelyard.deliver.serving.tls import TlsFiles
from modelyard.domain.permissions import Principal
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.server import certificates
from modelyard.server.bootstrap import open_yard
from modelyard.server.settings import Settings
from modelyard.server.yard import Yard

PROJECT = '[project]\nname = "t"\n[environments.production]\n'
TYPES = ("certificate.ending", "certificate.refused")


def put(folder: Path, days: float) -> TlsFiles:
    """A pair that ends after so many days."""
    end = datetime.now(UTC) + timedelta(days=days)
    issued = trustme.CA().issue_cert("localhost", not_before=end - timedelta(days=90), not_after=end)
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    return TlsFiles(folder / "own.pem", folder / "own.pem")


async def told(yard: Yard) -> list[tuple[str, Any]]:
    """(subject, days or reason) of every event after a look."""
    await certificates.look(yard)
    found = await yard.store.read(lambda conn: log.read(conn, types=TYPES))
    return [(event.subject, event.data.get("days", event.data.get("reason"))) for event in found]


def test_each_warning_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_text(PROJECT)

    async def live() -> None:
        yard = open_yard(tmp_path / "home", tmp_path, Settings())
        try:
            yard.certificates = Certificates(put(tmp_path, 40), "here")
            assert await told(yard) == []
            put(tmp_path, 20)
            yard.certificates.look()
            assert await told(yard) == [("certificate/server", 30)] == await told(yard)
            put(tmp_path, 5)
            yard.certificates.look()
            assert await told(yard) == [("certificate/server", 30), ("certificate/server", 7)] == await told(yard)
            (tmp_path / "own.pem").write_text("nothing")
            yard.certificates.look()
            yard.certificates.look()
            subject, reason = (await told(yard))[-1]
            assert subject == "certificate/server" and "own.pem" in reason and len(await told(yard)) == 3
        finally:
            yard.store.close()

    asyncio.run(live())


def test_a_far_machine_is_told_of_too(tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_text(PROJECT)
    ending = {"file": "/a.pem", "use": "certificate", "ends_at": now_ms() - DAY_MS}
    said = Report(stats={"endpoints": {}, "tls": {"refused": "", "refused_at": 0, "files": [ending]}})
    by = Principal("edge", "service", frozenset())

    async def live() -> None:
        yard = open_yard(tmp_path / "home", tmp_path, Settings())
        try:
            await yard.store.write(lambda conn: agents.report(conn, yard.project, "production", "shop", said, by))
            assert await told(yard) == [("certificate/production/shop", 0)] == await told(yard)
        finally:
            yard.store.close()

    asyncio.run(live())
