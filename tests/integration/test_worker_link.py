"""The worker against a small dispatcher over real TLS and QUIC: enrol, prove, run, reconnect, drain.

Long because it tells one story after another of the same small dispatcher and its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from octaskly_wire import identity
from octaskly_wire.codec import Codec
from octaskly_wire.messages import (
    AcknowledgeOutcome,
    AdmissionChanged,
    AttemptFinished,
    AttemptRejected,
    AttemptStarted,
    CancelAttempt,
    DrainStarted,
    OutputChunk,
    Refused,
    Register,
    TransferRefused,
)
from octaskly_wire.vocabulary import (
    Admission,
    FailureReason,
    HeldPhase,
    RefusalCode,
    RejectionReason,
    SandboxLevel,
)
from tests.support import levels
from tests.support.loopback import (
    CLUSTER,
    PATIENCE_S,
    LoopbackDispatcher,
    Worker,
    assignment,
    config_for,
    run_scene,
)
from tests.support.programs import new_mark, processes_with, sleepers, wake
from tests.support.transports import FALSE_SERVER, Credentials
from worker_node import node
from worker_node.config import Address, WorkerConfig
from worker_node.sandbox.probe import prove_levels
from worker_node.shell.joiner import CannotJoin, Joiner, first_success
from worker_node.shell.keyfile import StateFolder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux"),
    pytest.mark.usefixtures("transport"),
]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("codec", list(Codec))
def test_a_new_worker_enrols_registers_and_runs_a_command(tmp_path, codec):
    """From a join token to a recorded outcome, in both codecs."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        register = await session.next(Register)
        assert (register.name, register.slots, register.held) == ("worker", 4, [])
        assert {proof.level for proof in register.levels} == levels.proven()
        session.send(assignment("t1.1", "echo hello world; echo oops >&2; sleep 0.05; exit 3"))
        assert (await session.next(AttemptStarted)).attempt_id == "t1.1"
        finished = await session.next(AttemptFinished)
        report = finished.report
        assert (report.failure_reason, report.exit_code) == (FailureReason.EXIT_CODE, 3)
        assert (report.stdout.data, report.stderr.data) == (b"hello world\n", b"oops\n")
        assert report.sandbox is SandboxLevel.BASIC
        session.send(AcknowledgeOutcome("t1.1"))
        worker.node.stop()
        await session.next(DrainStarted)

    assert run_scene(scene, tmp_path, codec=codec) == 0


def test_a_worker_known_already_needs_no_token(tmp_path):
    """The identity in the state folder is enough for the second start."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        worker.node.stop()
        await session.next(DrainStarted)

    async def main():
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening():
            for token in (dispatcher.token, None):
                worker = Worker(config_for(dispatcher, tmp_path, join_token=token))
                running = asyncio.create_task(worker.run())
                await scene(dispatcher, worker)
                assert await running == 0
        assert dispatcher.seen.count("Enrol") == 1

    asyncio.run(main())


def test_the_secret_is_not_sent_to_a_dispatcher_with_another_ca(tmp_path):
    """A machine in the middle with a CA of its own learns nothing, and the worker says so and ends."""

    async def main():
        true, false = LoopbackDispatcher(), LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), false.listening():
            with pytest.raises(CannotJoin, match="not the one that made this join token"):
                await _join_once(config_for(false, tmp_path, join_token=true.token))
        assert false.seen == ["FetchCa"]

    asyncio.run(main())


async def _join_once(config: WorkerConfig) -> None:
    with contextlib.closing(StateFolder(config.state_dir)) as folder:
        connection, _ = await Joiner(config, folder, "boot-1").join()
        await connection.close()


def test_an_enrolled_worker_does_not_talk_to_a_false_dispatcher(tmp_path):
    """Neither hello nor result goes to a peer whose certificate another CA signed."""

    async def main():
        true, false = LoopbackDispatcher(), LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), true.listening(), false.listening():
            await _join_once(config_for(true, tmp_path))
            with pytest.raises(FALSE_SERVER):
                await _join_once(config_for(true, tmp_path, dispatcher_address=false.address))
        assert false.seen == []

    asyncio.run(main())


@pytest.mark.parametrize("has_name", [False, True], ids=["of a worker", "of a client with the dispatcher's name"])
def test_a_worker_certificate_cannot_pose_as_dispatcher(tmp_path, has_name):
    """A certificate of the right CA but for a client is refused before a byte is sent, whatever name it has."""

    async def main():
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening():
            await _join_once(config_for(dispatcher, tmp_path))
        seen = len(dispatcher.seen)
        key = identity.new_key()
        uri = x509.UniformResourceIdentifier(identity.worker_uri(CLUSTER, "worker-2"))
        name = x509.DNSName(identity.dispatcher_server_name(CLUSTER)) if has_name else uri
        client, life = ExtendedKeyUsageOID.CLIENT_AUTH, identity.WORKER_LIFETIME
        stolen = identity._issue_leaf(
            dispatcher.ca, dispatcher.ca_key, name, key.public_key(), client, dispatcher.now, life
        )
        dispatcher.credentials = Credentials(dispatcher.ca, stolen, key)
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening():
            with pytest.raises(FALSE_SERVER):
                await _join_once(config_for(dispatcher, tmp_path))
        assert len(dispatcher.seen) == seen

    asyncio.run(main())


def test_a_refused_token_ends_the_worker(tmp_path):
    """A refusal that is final is told and not tried again."""

    async def scene(dispatcher, worker):
        dispatcher.refuse_enrol = Refused(RefusalCode.BAD_TOKEN, "the token is used up", is_final=True)

    assert run_scene(scene, tmp_path) == 1


def test_a_refusal_that_passes_is_tried_again(tmp_path):
    """A dispatcher that shuts down is met again after its restart."""

    async def scene(dispatcher, worker):
        dispatcher.refuse_auth = Refused(RefusalCode.SHUTTING_DOWN, "later", is_final=False)
        while "Auth" not in dispatcher.seen:
            await asyncio.sleep(0.01)
        dispatcher.refuse_auth = None
        session = await dispatcher.sessions.get()
        await session.next(Register)
        worker.node.stop()

    assert run_scene(scene, tmp_path) == 0


def test_a_revoked_worker_kills_its_commands_and_leaves(tmp_path):
    """Revoking over the live link ends everything at once, with code 1."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        session.send(assignment("t1.1", "sleep 300"))
        await session.next(AttemptStarted)
        session.send(AdmissionChanged(Admission.REVOKED, "lost laptop"))

    assert run_scene(scene, tmp_path) == 1


def test_heartbeats_name_what_is_held(tmp_path):
    """Each heartbeat carries vitals and the attempts whose leases it renews."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        session.send(assignment("t1.1", "sleep 300"))
        await session.next(AttemptStarted)
        while not (session.heartbeats and session.heartbeats[-1].attempt_ids == ["t1.1"]):
            await asyncio.sleep(0.01)
        assert session.heartbeats[-1].vitals.memory_total_bytes > 0
        session.send(CancelAttempt("t1.1"))
        finished = await session.next(AttemptFinished)
        assert finished.report.failure_reason is FailureReason.CANCELLED
        session.send(AcknowledgeOutcome("t1.1"))
        worker.node.stop()

    assert run_scene(scene, tmp_path) == 0


def test_a_running_command_survives_a_lost_link(tmp_path):
    """After a reconnect the worker names what runs and what ended meanwhile, and sends that outcome again."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        mark = new_mark()
        session.send(assignment("t1.1", "echo early"), assignment("t2.1", f"sleep {mark}; echo late"))
        words = {}
        while words.keys() != {("t1.1", AttemptFinished), ("t2.1", AttemptStarted)}:
            word = await session.next(AttemptStarted | AttemptFinished)
            words[word.attempt_id, type(word)] = word
            words.pop(("t1.1", AttemptStarted), None)  # left out when it is over within some milliseconds
        assert words["t1.1", AttemptFinished].report.spawn_seconds > 0
        while not sleepers(mark):
            await asyncio.sleep(0.01)
        session.writer.transport.abort()
        session = await dispatcher.sessions.get()
        register = await session.next(Register)
        held = {attempt.attempt_id: attempt.phase for attempt in register.held}
        assert held == {"t1.1": HeldPhase.FINISHED, "t2.1": HeldPhase.RUNNING}
        assert (await session.next(AttemptFinished)).report.stdout.data == b"early\n"
        session.send(AcknowledgeOutcome("t1.1"))
        assert wake(mark) == 1
        finished = await session.next(AttemptFinished)
        assert (finished.attempt_id, finished.report.stdout.data) == ("t2.1", b"late\n")
        session.send(AcknowledgeOutcome("t2.1"))
        worker.node.stop()

    assert run_scene(scene, tmp_path) == 0


def test_what_waits_for_a_slot_too_long_goes_back(tmp_path):
    """The dispatcher may have another worker for it; what runs goes on."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        session.send(assignment("t1.1", "sleep 300"), assignment("t2.1", "true"))
        assert (await session.next(AttemptStarted)).attempt_id == "t1.1"
        rejection = await session.next(AttemptRejected)
        assert (rejection.attempt_id, rejection.reason) == ("t2.1", RejectionReason.NO_FREE_SLOT)
        session.send(CancelAttempt("t1.1"))
        assert (await session.next(AttemptFinished)).attempt_id == "t1.1"
        session.send(AcknowledgeOutcome("t1.1"))
        worker.node.stop()

    assert run_scene(scene, tmp_path, slots=1) == 0


def test_a_silent_dispatcher_is_left_and_dialled_again(tmp_path):
    """Three heartbeats without an answer mean that the link is dead."""

    async def scene(dispatcher, worker):
        dispatcher.acknowledges_heartbeats = False
        session = await dispatcher.sessions.get()
        await session.next(Register)
        assert await session.received.get() is None
        dispatcher.acknowledges_heartbeats = True
        session = await dispatcher.sessions.get()
        await session.next(Register)
        worker.node.stop()

    assert run_scene(scene, tmp_path) == 0


def test_much_output_goes_ahead_in_chunks(tmp_path):
    """Up to a megabyte arrives in order, whole, before the outcome, and not in the outcome."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        session.send(assignment("t1.1", "head -c 1000000 /dev/zero | tr '\\0' x; echo end"))
        await session.next(AttemptStarted)
        data = b""
        while isinstance(message := await session.received.get(), OutputChunk):
            assert (message.stream, message.offset) == ("stdout", len(data))
            data += message.data
        output = message.report.stdout
        assert (output.total_bytes, output.kept_bytes, output.is_truncated) == (1_000_004, len(data), False)
        assert output.data is None
        assert data == b"x" * 1_000_000 + b"end\n"
        session.send(AcknowledgeOutcome("t1.1"))
        worker.node.stop()

    assert run_scene(scene, tmp_path) == 0


def test_long_output_is_stored_ahead_of_its_outcome(tmp_path):
    """More than a megabyte goes as files do, whole, and the outcome names it; nothing stays on the worker."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        session.send(assignment("t1.1", "head -c 5000000 /dev/zero | tr '\\0' x; echo end; echo oops >&2"))
        await session.next(AttemptStarted)
        report = (await session.next(AttemptFinished)).report
        assert (report.stdout.total_bytes, report.stdout.kept_bytes) == (5_000_004, 5_000_004)
        assert (report.stdout.data, report.stdout.is_truncated) == (None, False)
        assert dispatcher.desk.arrived[report.stdout.sha256] == b"x" * 5_000_000 + b"end\n"
        assert report.stderr.data == b"oops\n"
        session.send(AcknowledgeOutcome("t1.1"))
        worker.node.stop()

    assert run_scene(scene, tmp_path) == 0
    assert [path for name in ("outgoing", "capture") for path in (tmp_path / "state" / name).iterdir()] == []


def test_long_output_that_is_not_taken_leaves_its_ends(tmp_path):
    """The task does not fail because the dispatcher has no room for all that its command wrote."""

    async def scene(dispatcher, worker):
        dispatcher.desk.refuses_store = TransferRefused(detail="too large", is_final=True)
        session = await dispatcher.sessions.get()
        await session.next(Register)
        session.send(assignment("t1.1", "echo first; head -c 5000000 /dev/zero; echo last"))
        await session.next(AttemptStarted)
        report = (await session.next(AttemptFinished)).report
        assert (report.failure_reason, report.exit_code) == (None, 0)
        assert (report.stdout.total_bytes, report.stdout.is_truncated) == (5_000_011, True)
        assert report.stdout.data.startswith(b"first\n")
        assert report.stdout.data.endswith(b"last\n")
        session.send(AcknowledgeOutcome("t1.1"))
        worker.node.stop()

    assert run_scene(scene, tmp_path) == 0


def test_a_level_that_is_not_proven_is_handed_back(tmp_path, monkeypatch):
    """A strict task never runs on a worker that cannot keep the promise, and the reason is known beforehand."""

    async def prove_little(*arguments, **options):
        return [
            replace(report, is_proven=False, why_not="no luck") if report.level is SandboxLevel.STRICT else report
            for report in await prove_levels(*arguments, **options)
        ]

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        register = await session.next(Register)
        [unproven] = [other for other in register.unproven if other.level is SandboxLevel.STRICT]
        assert (unproven.reason, unproven.is_below_floor) == ("no luck", False)
        session.send(assignment("t1.1", "echo ran", sandbox=SandboxLevel.STRICT))
        rejected = await session.next(AttemptRejected)
        assert rejected.reason is RejectionReason.SANDBOX_UNAVAILABLE
        worker.node.stop()

    monkeypatch.setattr(node, "prove_levels", prove_little)
    assert run_scene(scene, tmp_path) == 0


def test_a_level_below_the_floor_is_handed_back(tmp_path):
    """What the owner does not want is not offered, and not run when it comes all the same."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        below = {other.level for other in (await session.next(Register)).unproven if other.is_below_floor}
        assert below == {SandboxLevel.NONE, SandboxLevel.BASIC}
        session.send(assignment("t1.1", "echo ran", sandbox=SandboxLevel.BASIC))
        rejected = await session.next(AttemptRejected)
        assert rejected.reason is RejectionReason.SANDBOX_UNAVAILABLE
        worker.node.stop()

    assert run_scene(scene, tmp_path, min_sandbox=SandboxLevel.STRICT) == 0


def test_a_drain_that_takes_too_long_kills_and_says_so(tmp_path):
    """After the drain timeout the command is killed and told as lost, so that it runs again elsewhere."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        session.send(assignment("t1.1", "sleep 300"))
        await session.next(AttemptStarted)
        worker.node.stop()
        await session.next(DrainStarted)
        finished = await session.next(AttemptFinished)
        assert finished.report.failure_reason is FailureReason.WORKER_LOST
        session.send(AcknowledgeOutcome("t1.1"))

    assert run_scene(scene, tmp_path, drain_timeout_s=0.2) == 0


def test_the_first_address_that_proves_itself_wins():
    """Impostors and dead addresses cost a worker neither time nor trust."""

    async def attempt(address: Address) -> int:
        if address.port != 7:
            await asyncio.sleep(0)
            raise OSError("refused")
        return address.port

    addresses = [Address("h", port) for port in range(100)]
    assert asyncio.run(first_success(addresses, attempt)) == 7


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OCTASKLY_LOG": "debug"}


@contextlib.asynccontextmanager
async def program(
    dispatcher: LoopbackDispatcher, folder: Path, *flags: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the worker as a program; it is gone afterwards, however the test ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "worker_node",
        "--dispatcher-addr",
        str(dispatcher.address),
        "--state-dir",
        str(folder / "state"),
        "--min-sandbox",
        "basic",
        "--transport",
        dispatcher.transport,
        *flags,
        env={**_environment(), "OCTASKLY_JOIN_TOKEN": dispatcher.token.text},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def test_the_program_drains_on_the_first_signal_and_logs_no_secret(tmp_path):
    """SIGTERM lets the running command finish, its outcome is acknowledged, the exit code is 0."""

    async def main():
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening(), program(dispatcher, tmp_path) as process:
            session = await dispatcher.sessions.get()
            await session.next(Register)
            mark = new_mark()
            session.send(assignment("t1.1", f"sleep {mark}; echo done"))
            await session.next(AttemptStarted)
            while not sleepers(mark):
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            await session.next(DrainStarted)
            session.send(assignment("t2.1", "true"))
            assert (await session.next(AttemptRejected)).reason is RejectionReason.DRAINING
            assert wake(mark) == 1
            assert (await session.next(AttemptFinished)).report.exit_code == 0
            session.send(AcknowledgeOutcome("t1.1"))
            _, log = await process.communicate()
            assert process.returncode == 0, log.decode()
            assert dispatcher.token.secret.encode() not in log
            assert not list((tmp_path / "state" / "work").iterdir())

    asyncio.run(main())


def test_the_second_signal_kills_at_once(tmp_path):
    """Two SIGINT end a worker with a long command immediately, with code 1, and nothing of the command is left."""

    async def main():
        dispatcher = LoopbackDispatcher()
        async with asyncio.timeout(PATIENCE_S), dispatcher.listening(), program(dispatcher, tmp_path) as process:
            session = await dispatcher.sessions.get()
            await session.next(Register)
            mark = new_mark()
            session.send(assignment("t1.1", f"sleep {mark} & setsid sleep {mark} & wait"))
            await session.next(AttemptStarted)
            while len(processes_with(mark)) < 3:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            await session.next(DrainStarted)
            process.send_signal(signal.SIGINT)
            _, log = await process.communicate()
            assert process.returncode == 1, log.decode()
            assert processes_with(mark) == []

    asyncio.run(main())


def test_two_workers_cannot_share_a_state_folder(tmp_path):
    """The second says which flag helps and fails."""

    async def main():
        dispatcher = LoopbackDispatcher()
        dispatcher.address = Address("127.0.0.1", 5555)
        with contextlib.closing(StateFolder(tmp_path / "state")):
            async with program(dispatcher, tmp_path) as process:
                _, log = await process.communicate()
        assert process.returncode == 1
        assert b"--state-dir" in log

    asyncio.run(main())
