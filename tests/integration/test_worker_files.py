"""The worker's files over real transfer links: staged before the command, sent before the outcome, whatever breaks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
import sys
import time
from pathlib import Path

import pytest

from octaskly_wire.codec import Codec
from octaskly_wire.messages import (
    AcknowledgeOutcome,
    AttemptFinished,
    CancelAttempt,
    DrainStarted,
    FetchBlob,
    Heartbeat,
    OutputFile,
    Register,
    StoreBlob,
    TransferRefused,
)
from octaskly_wire.vocabulary import FailureReason, HeldPhase
from tests.support.loopback import PATIENCE_S, LoopbackDispatcher, assignment, run_scene

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux"),
    pytest.mark.usefixtures("transport"),
]

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SOON_S = 10.0
"""Far less than the peer's silence is borne."""


def digest_of(data: bytes) -> str:
    """Return the digest under which a content is stored."""
    return hashlib.sha256(data).hexdigest()


async def leave(session, worker):
    """Let the worker drain."""
    worker.node.stop()
    await session.next(DrainStarted)


@pytest.mark.parametrize("codec", list(Codec))
def test_inputs_come_before_the_command_and_outputs_before_the_outcome(tmp_path, codec):
    """The command reads its input, and when its outcome is told the dispatcher has its output."""
    data = secrets.token_bytes(MIB + 1)

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        inputs = [dispatcher.desk.put("in/data", data), dispatcher.desk.put("empty", b"")]
        session.send(assignment("t1.1", "cat empty in/data in/data >twice", inputs=inputs, outputs=["twice"]))
        report = (await session.next(AttemptFinished)).report
        assert report.failure_reason is None
        assert report.outputs == [OutputFile("twice", digest_of(data + data), 2 * len(data))]
        assert bytes(dispatcher.desk.arrived[digest_of(data + data)]) == data + data
        assert list((tmp_path / "state" / "outgoing").iterdir())
        session.send(AcknowledgeOutcome("t1.1"))
        await leave(session, worker)

    assert run_scene(scene, tmp_path, codec=codec) == 0
    assert not list((tmp_path / "state" / "outgoing").iterdir())


def test_a_hundred_tasks_with_one_input_fetch_it_once(tmp_path):
    """All wait for the same fetch, and those that come later find it in the cache."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        file = dispatcher.desk.put("data", bytes(MIB))
        finished = 0
        for batch in range(25):
            names = [f"t{batch}x{number}.1" for number in range(4)]
            for name in names:
                session.send(assignment(name, "test $(wc -c <data) = 1048576", inputs=[file]))
            while finished < 4 * (batch + 1):
                message = await session.received.get()
                if isinstance(message, AttemptFinished):
                    assert message.report.exit_code == 0
                    session.send(AcknowledgeOutcome(message.attempt_id))
                    finished += 1
        assert len(dispatcher.desk.asked(FetchBlob)) == 1
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


def test_a_fetch_that_was_cut_goes_on_where_it_was(tmp_path):
    """The second and the third try begin behind what arrived, and the content is whole in the end."""
    data = secrets.token_bytes(3 * MIB)

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        dispatcher.desk.cuts_at = [MIB, 2 * MIB]
        session.send(assignment("t1.1", "sha256sum data", inputs=[dispatcher.desk.put("data", data)]))
        report = (await session.next(AttemptFinished)).report
        assert report.stdout.data == f"{digest_of(data)}  data\n".encode()
        assert [request.offset for request in dispatcher.desk.asked(FetchBlob)] == [0, MIB, 2 * MIB]
        session.send(AcknowledgeOutcome("t1.1"))
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


def test_a_content_that_is_not_what_was_asked_for_never_reaches_a_command(tmp_path):
    """A peer that lies twice ends the attempt as failed in staging, and nothing of the lie is kept."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        dispatcher.desk.lies = True
        session.send(assignment("t1.1", "cat data", inputs=[dispatcher.desk.put("data", b"the truth")]))
        report = (await session.next(AttemptFinished)).report
        assert (report.failure_reason, report.exit_code) == (FailureReason.STAGING, None)
        assert "'data'" in report.detail
        assert "is not the content" in report.detail
        assert not [path for path in (tmp_path / "state" / "cache").rglob("*") if path.is_file()]
        session.send(AcknowledgeOutcome("t1.1"))
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


def test_an_input_that_is_refused_for_good_fails_its_attempt_at_once(tmp_path):
    """The outcome says `staging`, names the input and gives the dispatcher's reason."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        dispatcher.desk.refuses_fetch = TransferRefused("it is not stored here any more", is_final=True)
        session.send(assignment("t1.1", "true", inputs=[dispatcher.desk.put("in/data", b"x")]))
        report = (await session.next(AttemptFinished)).report
        assert report.failure_reason is FailureReason.STAGING
        assert report.detail == "input 'in/data': it is not stored here any more"
        session.send(AcknowledgeOutcome("t1.1"))
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


@pytest.mark.parametrize("discard", [False, True])
def test_a_cancel_ends_an_attempt_that_waits_for_its_inputs(tmp_path, discard):
    """At once, although the dispatcher sends nothing; its slot is free again."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        desk = dispatcher.desk
        desk.may_answer.clear()
        session.send(assignment("t1.1", "true", inputs=[desk.put("data", b"x")]))
        while not desk.requests:
            await asyncio.sleep(0.01)
        session.send(CancelAttempt("t1.1", discard=discard), assignment("t2.1", "echo next"))
        if not discard:
            finished = await session.next(AttemptFinished)
            assert (finished.attempt_id, finished.report.failure_reason) == ("t1.1", FailureReason.CANCELLED)
            session.send(AcknowledgeOutcome("t1.1"))
        assert (await session.next(AttemptFinished)).attempt_id == "t2.1"
        session.send(AcknowledgeOutcome("t2.1"))
        desk.may_answer.set()
        await leave(session, worker)

    assert run_scene(scene, tmp_path, slots=1) == 0


def test_a_worker_that_is_stopped_at_once_does_not_wait_for_files(tmp_path):
    """Neither for an input that does not come nor for an output that is not taken; the output is sent by the next life."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        desk = dispatcher.desk
        desk.may_answer.clear()
        session.send(
            assignment("t1.1", "true", inputs=[desk.put("data", b"x")]),
            assignment("t2.1", "echo x >data", outputs=["data"]),
        )
        while {type(request) for request in desk.requests} != {FetchBlob, StoreBlob}:
            await asyncio.sleep(0.01)
        worker.node.stop()
        worker.node.stop()

    began = time.monotonic()
    assert run_scene(scene, tmp_path) == 1
    assert time.monotonic() - began < SOON_S
    assert not list((tmp_path / "state" / "work").iterdir())
    assert list((tmp_path / "state" / "outgoing").iterdir())


def test_an_output_that_was_cut_goes_on_where_it_was(tmp_path):
    """The dispatcher says how far it has it, and gets the rest."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        dispatcher.desk.cuts_at = [MIB]
        session.send(assignment("t1.1", "head -c 3145728 /dev/urandom >data", outputs=["data"]))
        [output] = (await session.next(AttemptFinished)).report.outputs
        assert digest_of(bytes(dispatcher.desk.arrived[output.sha256])) == output.sha256
        assert len(dispatcher.desk.asked(StoreBlob)) == 2
        session.send(AcknowledgeOutcome("t1.1"))
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


def test_outputs_that_are_refused_for_good_end_as_a_failure_and_nothing_hangs(tmp_path):
    """The outcome says `staging` with the reason, and the worker lets go of the contents."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        dispatcher.desk.refuses_store = TransferRefused("the attempt is not this worker's", is_final=True)
        session.send(assignment("t1.1", "echo x >data", outputs=["data"]))
        report = (await session.next(AttemptFinished)).report
        assert (report.failure_reason, report.exit_code, report.outputs) == (FailureReason.STAGING, 0, [])
        assert "not this worker's" in report.detail
        assert not list((tmp_path / "state" / "outgoing").iterdir())
        session.send(AcknowledgeOutcome("t1.1"))
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


def test_an_output_that_was_changed_on_the_workers_disk_is_told_as_lost(tmp_path):
    """A dispatcher that says what came is not what was announced is not asked for ever."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        dispatcher.desk.refuses_store = TransferRefused("another content", is_final=False)
        session.send(assignment("t1.1", "echo x >data", outputs=["data"]))
        while not dispatcher.desk.requests:
            await asyncio.sleep(0.01)
        [content] = (tmp_path / "state" / "outgoing").iterdir()
        content.write_bytes(b"y\n")
        report = (await session.next(AttemptFinished)).report
        assert report.failure_reason is FailureReason.STAGING
        assert report.detail == "the outputs could not be stored: 'data' was changed on the worker's disk"
        session.send(AcknowledgeOutcome("t1.1"))
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


def test_heartbeats_go_on_and_name_the_attempt_while_its_output_waits(tmp_path):
    """A dispatcher that is slow to take a content hears all the same that the attempt is in hand."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        desk = dispatcher.desk
        desk.may_answer.clear()
        session.send(assignment("t1.1", "echo x >data", outputs=["data"]))
        while not desk.requests:
            await asyncio.sleep(0.01)
        before = len(session.heartbeats)
        while len(session.heartbeats) < before + 3:
            await asyncio.sleep(0.01)
        beat: Heartbeat = session.heartbeats[-1]
        assert beat.attempt_ids == ["t1.1"]
        assert session.received.empty()
        desk.may_answer.set()
        await session.next(AttemptFinished)
        session.send(AcknowledgeOutcome("t1.1"))
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


def test_an_input_does_not_wait_behind_outputs(tmp_path):
    """However many are on their way and however long they take."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        desk = dispatcher.desk
        desk.may_store.clear()
        slow = [f"t{number}.1" for number in range(4)]
        for attempt_id in slow:
            session.send(assignment(attempt_id, f"echo {attempt_id} >data", outputs=["data"]))
        while not desk.asked(StoreBlob):
            await asyncio.sleep(0.01)
        session.send(assignment("t9.1", "true", inputs=[desk.put("in", b"x")]))
        assert (await session.next(AttemptFinished)).attempt_id == "t9.1"
        session.send(AcknowledgeOutcome("t9.1"))
        desk.may_store.set()
        for _ in slow:
            session.send(AcknowledgeOutcome((await session.next(AttemptFinished)).attempt_id))
        await leave(session, worker)

    assert run_scene(scene, tmp_path) == 0


def test_a_worker_that_dies_before_the_acknowledgement_sends_outputs_and_outcome_again(tmp_path):
    """Killed with its outcome in the spool, the next life has the content still, and lets go of it after the word."""

    async def start(dispatcher):
        environment = {**os.environ, "OCTASKLY_JOIN_TOKEN": dispatcher.token.text}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker_node", "--dispatcher-addr", str(dispatcher.address)),
            *("--state-dir", str(tmp_path / "state"), "--min-sandbox", "basic", "--transport", dispatcher.transport),
            cwd=ROOT,
            env=environment,
        )

    async def main():
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening():
            first = await start(dispatcher)
            session = await dispatcher.sessions.get()
            await session.next(Register)
            session.send(assignment("t1.1", "echo kept >data", outputs=["data"]))
            outputs = (await session.next(AttemptFinished)).report.outputs
            try:
                while not (tmp_path / "state" / "spool" / "t1.1.outcome").exists():
                    await asyncio.sleep(0.01)
            finally:
                first.kill()
            await first.wait()
            (tmp_path / "state" / "outgoing" / digest_of(b"nobody's")).write_bytes(b"nobody's")
            dispatcher.desk.arrived.clear()
            second = await start(dispatcher)
            session = await dispatcher.sessions.get()
            [held] = (await session.next(Register)).held
            assert (held.attempt_id, held.phase) == ("t1.1", HeldPhase.FINISHED)
            assert (await session.next(AttemptFinished)).report.outputs == outputs
            assert dispatcher.desk.arrived == {outputs[0].sha256: b"kept\n"}
            assert [path.name for path in (tmp_path / "state" / "outgoing").iterdir()] == [outputs[0].sha256]
            session.send(AcknowledgeOutcome("t1.1"))
            second.send_signal(signal.SIGTERM)
            await session.next(DrainStarted)
            assert await second.wait() == 0
        assert not list((tmp_path / "state" / "outgoing").iterdir())

    asyncio.run(main())
