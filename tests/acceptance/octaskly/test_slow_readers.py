"""Who reads a stream through `octaskly` may pause, and the connection may break: every byte still comes, once."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from octaskly.command_line import copying
from tests.support.counting_relay import counting_relay
from tests.support.programs import new_mark
from tests.support.wait import wait_until

NUMBERS = b"".join(b"%d\n" % number for number in range(1, 2_000_001))
COUNTING = "seq 1 2000000"


@pytest.fixture
def relay(shared_cluster):
    """A way to the dispatcher that can be cut."""
    with counting_relay(int(shared_cluster.url.rpartition(":")[2])) as relay:
        yield relay


@pytest.fixture
def through(shell, token, relay):
    """The user's shell, whose way to the server is that one."""
    shell.environment["OCTASKLY_URL"] = f"http://127.0.0.1:{relay.port}"
    shell.environment["OCTASKLY_TOKEN"] = token
    return shell


@pytest.mark.parametrize("command", ["run", "logs"])
def test_a_reader_that_was_cut_off_misses_nothing(through, relay, command) -> None:
    """The connection breaks again and again while it reads on, amid pieces; what comes is exact."""
    arguments = ("run", COUNTING)
    if command == "logs":
        arguments = ("logs", "-f", through.says("submit", COUNTING).strip())
    with through.start(*arguments) as process:
        read = process.stdout.read(100_000)
        assert relay.back_bytes < len(NUMBERS)
        for size in (1, 2_000_000, 4_000_000):
            relay.cut()
            read += process.stdout.read(size)
        read += process.stdout.read()
        assert process.wait(60) == 0, process.stderr.read()
        assert process.stderr.read() == b""
    assert (len(read), read == NUMBERS) == (len(NUMBERS), True)


def test_a_second_attempt_is_shown_whole_after_a_cut(through, relay, shared_cluster) -> None:
    """The line that tells of it is none of the stream's bytes, and what was read of the first does not count."""
    mark = new_mark()
    with through.start("run", "--name", mark, "--retries", "1", "echo a b c; exit 3") as process:
        read = process.stdout.readline()
        relay.cut()
        wait_until(lambda: states_of(shared_cluster, mark) == ["failed"], "both attempts have ended")
        relay.cut()
        read += process.stdout.read()
        assert process.wait(60) == 3, process.stderr.read()
    assert read == b"a b c\n\n[... attempt 2 begins ...]\na b c\n"


def test_a_pause_is_no_silence(shell, shared_cluster, monkeypatch) -> None:
    """A reader that rests for longer than a stream may be silent, long after the task's end, gets all when it reads on."""
    monkeypatch.setattr(copying, "SILENCE_S", 0.2)
    monkeypatch.setattr(copying, "LOOK_S", 0.05)
    mark = new_mark()
    ours, theirs = os.pipe()
    received = bytearray()

    def read_late() -> None:
        with os.fdopen(ours, "rb") as pipe:
            received.extend(pipe.read(1))
            wait_until(lambda: states_of(shared_cluster, mark) == ["completed"], "the task has ended")
            time.sleep(1.0)  # The rest that is taken.
            received.extend(pipe.read())

    reading = threading.Thread(target=read_late)
    reading.start()
    with os.fdopen(theirs, "wb") as target:
        done = shell.run("run", "--name", mark, COUNTING, stdout=target)
    reading.join(60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert received == NUMBERS


def test_ctrl_c_leaves_a_reader_that_rests(shell, shared_cluster) -> None:
    """The task has ended, its output waits for somebody who does not read: there is nothing to wait for."""
    mark = new_mark()
    with shell.start("run", "--name", mark, COUNTING) as process:
        assert process.stdout.read(1) == b"1"
        wait_until(lambda: states_of(shared_cluster, mark) == ["completed"], "the task has ended")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


def states_of(cluster, name: str) -> list[str]:
    """Return the states of all tasks with this label."""
    return [state for (state,) in cluster.rows("SELECT status FROM tasks WHERE name = ?", name)]
