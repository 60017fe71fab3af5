"""Checkpoints of the audit between dispatcher and workers: given, kept, shown again, compared."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from octaskly_wire.messages import AuditCheckpoint, DrainStarted, Register, WitnessCheckpoint
from tests.support.loopback import PATIENCE_S, LoopbackDispatcher, Worker, config_for
from tests.support.sandbox_bench import until
from tests.support.scripted_worker import Dispatcher, NoBlobs

pytestmark = pytest.mark.usefixtures("transport")


def checkpoint(row_id: int) -> AuditCheckpoint:
    """Return a checkpoint of a row."""
    return AuditCheckpoint(row_id, f"{row_id:064x}", "2026-01-01T00:00:00.000000+00:00", bytes(64))


@pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")
def test_a_worker_shows_the_highest_it_was_given(tmp_path: Path) -> None:
    """On the next link, and after a restart; a lower one changes nothing."""

    async def main() -> None:
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening():
            for start in range(2):
                worker = Worker(config_for(dispatcher, tmp_path))
                running = asyncio.create_task(worker.run())
                session = await dispatcher.sessions.get()
                register = await session.next(Register)
                assert register.witnessed == (checkpoint(9) if start else None)
                if not start:
                    for row_id in (4, 9, 7):
                        session.send(WitnessCheckpoint(checkpoint(row_id)))
                    await until(lambda worker=worker: worker.node._witness.highest == checkpoint(9))
                    session.writer.transport.abort()
                    session = await dispatcher.sessions.get()
                    assert (await session.next(Register)).witnessed == checkpoint(9)
                worker.node.stop()
                await session.next(DrainStarted)
                assert await running == 0

    asyncio.run(main())


def test_every_worker_gets_checkpoints_and_is_compared(caplog: pytest.LogCaptureFixture) -> None:
    """The newest one when it connects, each new one, and an alarm in the log for what does not fit."""
    asked: list[tuple[str, AuditCheckpoint]] = []

    def examine(worker_id: str, shown: AuditCheckpoint) -> str:
        asked.append((worker_id, shown))
        return "row 5 was replaced" if shown.row_id == 5 else ""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S), Dispatcher(NoBlobs()).running() as dispatcher:
            store: Any = dispatcher.store
            store.examine_witnessed = examine
            early = await dispatcher.worker("w1").control(witnessed=checkpoint(3))
            await until(lambda: asked)
            dispatcher.service.publish_checkpoint(checkpoint(8))
            assert (await early.until(WitnessCheckpoint)).checkpoint == checkpoint(8)
            late = await dispatcher.worker("w2").control(witnessed=checkpoint(5))
            assert (await late.until(WitnessCheckpoint)).checkpoint == checkpoint(8)
            await until(lambda: len(asked) == 2)
            dispatcher.service.publish_checkpoint(checkpoint(9))
            for link in (early, late):
                assert (await link.until(WitnessCheckpoint)).checkpoint == checkpoint(9)

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(main())
    assert asked == [("w1", checkpoint(3)), ("w2", checkpoint(5))]
    [alarm] = [one for one in caplog.records if one.levelno == logging.CRITICAL]
    assert "Worker w2 contradicts the audit trail: row 5 was replaced" in alarm.getMessage()
