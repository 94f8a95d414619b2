"""When a process that ended is started again."""

import asyncio
import sys
from pathlib import Path

import pytest

from modelyard.deliver.deployments import child
from modelyard.deliver.deployments.child import Child


def test_what_is_killed_begins_at_once_and_what_gives_up_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a busy machine a start that fails takes longer than a run that counts as steady."""
    monkeypatch.setattr(child, "STEADY_S", 0.0)
    monkeypatch.setattr(child, "FIRST_PAUSE_S", 600.0)

    def kept(name: str, code: str) -> Child:
        return Child(name, [sys.executable, "-c", code], {}, tmp_path / f"{name}.log").start()

    async def watch() -> None:
        killed, gave_up = kept("killed", "import os; os.kill(os.getpid(), 9)"), kept("gave-up", "raise SystemExit(1)")
        async with asyncio.timeout(60):
            while killed.deaths < 3 or not gave_up.deaths:
                await asyncio.sleep(0.01)
        await asyncio.gather(killed.stop(), gave_up.stop())
        assert (killed.restarts, gave_up.restarts, gave_up.last_exit) == (0, 1, 1)

    asyncio.run(watch())
    said = {record.getMessage() for record in caplog.records if record.name == "modelyard.supervisor"}
    how = "ended by signal 9 (Killed) after 0 s, and is started again"
    assert said == {f"killed was {how}; see {tmp_path}/killed.log"}
