"""Limits and lives of commands: what ends them, and that nothing of them is left, whoever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import Enforcement, FailureReason, SandboxLevel
from tests.support import levels, sandbox_bench
from tests.support.programs import new_mark, process_exists, processes_with
from tests.support.sandbox_bench import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")

ROOT = Path(__file__).parents[2]
BASIC, STRICT, VERY_STRICT = SandboxLevel.BASIC, SandboxLevel.STRICT, SandboxLevel.VERY_STRICT
FAMILY = "sleep {mark} & setsid sleep {mark} & wait"
"""A shell, a child, and a child in a session of its own: all three carry the mark."""
FAMILY_SIZE = 3


@pytest.fixture
def play(tmp_path):
    """Return a function that runs a scene with a bench and closes it."""
    return partial(sandbox_bench.play, tmp_path)


@pytest.fixture(params=[BASIC, STRICT])
def level(request):
    """Each level that keeps hold of a command's processes in another way, if it is proven here."""
    levels.need(request.param)
    return request.param


@pytest.fixture(params=[BASIC, STRICT, VERY_STRICT])
def limited_level(request):
    """Each level that keeps limits in another way, if it is proven here."""
    levels.need(request.param)
    return request.param


@pytest.fixture
def mark():
    """A mark of this test's own in command lines; whatever carries it afterwards has survived."""
    mark = new_mark()
    yield mark
    left = processes_with(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


# --- limits ------------------------------------------------------------------------------------------


def test_kernel_limits_are_set_as_asked(play, limited_level):
    """What the kernel holds for each process shows in the command's own limits; what a group holds does not."""
    limits = Limits(memory_mb=100, disk_mb=10, open_files=50, cpu_seconds=7, processes=20)
    command = "cat /proc/self/limits; cat /proc/self/oom_score_adj"

    async def scene(bench):
        return bench.host.facts, await bench.run(command, limited_level, limits=limits)

    facts, ending = play(scene)
    rows = {line[:26].strip(): line[26:].split() for line in ending.stdout.decode().splitlines()}
    assert rows["Max data size"][0] == ("unlimited" if facts.has_memory_group else str(100 << 20))
    assert rows["Max file size"][0] == str(10 << 20)
    assert rows["Max open files"][0] == "50"
    assert rows["Max core file size"][0] == "0"
    assert rows["Max cpu time"][0] == "7"
    assert rows["500"] == []
    report = ending.report
    assert report.limits["open_files"] is Enforcement.KERNEL
    has_users = facts.has_own_users or limited_level is not BASIC
    assert report.limits["processes"] is (Enforcement.KERNEL if has_users else Enforcement.POLLED)
    assert report.limits["memory_mb"] is (Enforcement.KERNEL if facts.has_memory_group else Enforcement.POLLED)
    assert report.limits["disk_mb"] is (Enforcement.KERNEL if limited_level is VERY_STRICT else Enforcement.POLLED)
    if has_users:
        assert 20 < int(rows["Max processes"][0]) <= 23  # its own, the sandbox's first process and its keeper


def test_processor_time_runs_out(play, limited_level):
    """A busy loop ends at its limit, and the reason says so."""
    report = play(lambda bench: bench.run("while :; do :; done", limited_level, limits=Limits(cpu_seconds=1))).report
    assert report.failure_reason is FailureReason.CPU_LIMIT


def test_a_file_cannot_grow_beyond_the_disk_limit(play, limited_level):
    """SIGXFSZ of the shell's child is told as the disk limit, because the full file is there to prove it."""
    command = "head -c 100000000 /dev/zero >big; exit $?"
    report = play(lambda bench: bench.run(command, limited_level, limits=Limits(disk_mb=5))).report
    assert report.failure_reason is FailureReason.DISK_LIMIT


def test_an_exit_code_that_looks_like_a_limit_is_only_an_exit_code(play, limited_level):
    """A command may exit with 153 or 152 for reasons of its own."""

    async def scene(bench):
        return [(await bench.run(f"exit {code}", limited_level)).report.failure_reason for code in (152, 153)]

    assert play(scene) == [FailureReason.EXIT_CODE] * 2


def test_many_small_files_hit_the_disk_limit_too(play, limited_level):
    """The folder counts as a whole: polled, or as a file system that is full."""
    command = "for i in $(seq 1000); do head -c 1000000 /dev/zero >f$i || exit 1; done"
    report = play(lambda bench: bench.run(command, limited_level, limits=Limits(disk_mb=20))).report
    assert report.failure_reason is FailureReason.DISK_LIMIT


def test_too_many_processes_end_the_attempt(play, limited_level, mark):
    """The count of the whole tree is polled, also where the kernel lets it grow no further."""
    # Where there are no more processes to be had, xargs waits, while a shell would give up.
    command = f"seq 60 | xargs -P 60 -I '{{}}' sleep {mark}"
    report = play(lambda bench: bench.run(command, limited_level, limits=Limits(processes=50))).report
    assert report.failure_reason is FailureReason.PROCESS_LIMIT


def test_memory_of_the_whole_tree_counts(play, limited_level):
    """Three processes that each stay below the limit are together above it."""
    # A line without an end is all kept by `tail`, for as long as its input stays open.
    hog = "{ head -c 60000000 /dev/zero; sleep 100; } | tail >/dev/null"
    report = play(
        lambda bench: bench.run(f"{hog} & {hog} & {hog} & wait", limited_level, limits=Limits(memory_mb=120))
    ).report
    assert report.failure_reason is FailureReason.MEMORY_LIMIT


# --- nothing is left ---------------------------------------------------------------------------------


def test_two_hundred_daemons_are_gone_when_the_command_is(play, level, mark):
    """Background processes in sessions of their own end with the command that left them."""
    command = (
        f"for i in $(seq 200); do setsid sh -c 'echo up >>up; exec sleep {mark}' & done; "
        "while [ $(wc -l <up) -lt 200 ]; do sleep 0.02; done; wc -l <up; exit 0"
    )
    limits = Limits(processes=250)
    ending = play(lambda bench: bench.run(command, level, limits=limits))
    assert (ending.report.failure_reason, ending.stdout.strip()) == (None, b"200")


def test_a_pipe_held_by_a_daemon_does_not_hold_up_the_outcome(play, level, mark):
    """A background process keeps standard output open, and the outcome comes all the same."""
    started_at = time.monotonic()
    assert play(lambda bench: bench.run(f"sleep {mark} & echo done", level)).stdout == b"done\n"
    assert time.monotonic() - started_at < 5


def test_a_timeout_kills_the_tree_after_a_grace(play, level, mark):
    """TERM first; who ignores it gets KILL five seconds later, descendants included."""
    command = f"trap '' TERM; {FAMILY.format(mark=mark)}"
    report = play(lambda bench: bench.run(command, level, timeout_s=1)).report
    assert report.failure_reason is FailureReason.TIMEOUT
    assert report.exit_code is None
    assert 5_900 <= report.duration_ms < 9_000


def test_a_timeout_lets_a_command_tidy_up(play, level):
    """TERM can be caught, and the last words are kept."""
    command = "trap 'echo tidy; exit 0' TERM; while :; do sleep 0.1; done"
    ending = play(lambda bench: bench.run(command, level, timeout_s=1))
    assert (ending.report.failure_reason, ending.stdout) == (FailureReason.TIMEOUT, b"tidy\n")


def test_cancel_kills_the_tree(play, level, mark):
    """A cancelled command's outcome says so and nothing of it lives on."""

    async def scene(bench):
        ending = bench.start(FAMILY.format(mark=mark), level)
        await until(lambda: len(processes_with(mark)) == FAMILY_SIZE)
        bench.runner.stop("t0.1", at_once=False)
        await ending.is_over.wait()
        return ending.report.failure_reason, processes_with(mark)

    assert play(scene) == (FailureReason.CANCELLED, [])


def test_who_forks_faster_than_he_is_killed_is_gone_too(play, level, mark):
    """Five processes that live on in one child after the other are found while they are being killed."""
    # Bounded: the last of each row sleeps, and would be seen.
    runner = f'[ $LEFT -gt 0 ] || exec sleep {mark}; LEFT=$((LEFT-1)) sh -c "$RUNNER" &'
    command = 'for i in 1 2 3 4 5; do sh -c "$RUNNER" & done; echo off'

    async def scene(bench):
        ending = await bench.run(command, level, env={"RUNNER": runner, "LEFT": "2000"})
        return ending.report.failure_reason, ending.stdout, processes_with(mark)

    assert play(scene) == (None, b"off\n", [])


def test_supervisors_serve_on_and_are_as_many_as_were_needed_at_once(play, level):
    """Attempts one after the other under the same limits share a supervisor; two at once have two."""

    async def scene(bench):
        served = set()
        for _ in range(3):
            assert (await bench.run("true", level)).report.failure_reason is None
            served.add(tuple(supervisors(bench)))
        for ending in [bench.start("sleep 0.3", level) for _ in range(2)]:
            await ending.is_over.wait()
        return served, supervisors(bench)

    served, then = play(scene)
    [[one]] = served
    assert len(then) == 2
    assert one in then


def test_a_supervisor_of_other_limits_makes_room(play, level):
    """What a supervisor put on it cannot take off: the next command gets a new one in its place, not beside it."""
    kinds = [{"level": level}, {"level": BASIC, "limits": Limits(open_files=99)}, {"level": SandboxLevel.NONE}]

    async def scene(bench):
        seen = []
        for kind in kinds:
            seen.append((await bench.run("ulimit -n", **kind)).stdout)
            await until(lambda: len(supervisors(bench)) == 1)
        return seen

    assert play(scene) == [b"1024\n", b"99\n", b"1024\n"]


# --- death of ours -----------------------------------------------------------------------------------


def supervisors(bench) -> list[int]:
    """Return the process ids of the supervisors."""
    return sorted(process.pid for process in psutil.Process(bench.host.spawner_pid).children())


def test_killing_the_spawner_kills_its_commands_and_a_new_one_serves(play, level, mark):
    """kill -9 of the spawner: the attempts are told as lost, nothing is left, and the worker goes on."""

    async def scene(bench):
        endings = [bench.start(FAMILY.format(mark=mark), level) for _ in range(5)]
        await until(lambda: len(processes_with(mark)) == 5 * FAMILY_SIZE)
        old = bench.host.spawner_pid
        os.kill(old, signal.SIGKILL)
        for ending in endings:
            await ending.is_over.wait()
        left = processes_with(mark)
        again = await bench.run("echo again", level)
        assert bench.host.spawner_pid != old
        return [ending.report.failure_reason for ending in endings], left, again.stdout

    assert play(scene) == ([FailureReason.WORKER_LOST] * 5, [], b"again\n")


def test_killing_a_supervisor_kills_its_command(play, level, mark):
    """The spawner is there for the daemons of a supervisor that was shot."""

    async def scene(bench):
        ending = bench.start(FAMILY.format(mark=mark), level)
        await until(lambda: len(processes_with(mark)) == FAMILY_SIZE)
        [supervisor] = supervisors(bench)
        os.kill(supervisor, signal.SIGKILL)
        await ending.is_over.wait()
        await until(lambda: not processes_with(mark))
        return ending.report.failure_reason, (await bench.run("echo again", level)).stdout

    assert play(scene) == (FailureReason.WORKER_LOST, b"again\n")


WORKER = """
import asyncio, sys
from pathlib import Path
from octaskly_wire.vocabulary import SandboxLevel
from tests.support.sandbox_bench import Bench

async def main():
    bench = Bench(Path(sys.argv[1]))
    for _ in range(5):
        bench.start(sys.argv[3], SandboxLevel(sys.argv[2]))
    print(bench.host.spawner_pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def test_killing_the_worker_kills_all_its_commands(tmp_path, level, mark):
    """kill -9 of the worker leaves neither spawner nor supervisor nor sandbox nor command."""
    command = f"trap '' TERM; {FAMILY.format(mark=mark)}"
    arguments = [sys.executable, "-c", WORKER, str(tmp_path), level, command]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE) as worker:
        try:
            spawner = int(worker.stdout.readline())
            # The worker's own command line carries the mark as well.
            asyncio.run(until(lambda: len(processes_with(mark)) == 1 + 5 * FAMILY_SIZE))
            everyone = [spawner, *(process.pid for process in psutil.Process(spawner).children(recursive=True))]
            assert len(everyone) >= 1 + 5 + 5 * FAMILY_SIZE
        finally:
            worker.kill()
    asyncio.run(until(lambda: not any(map(process_exists, everyone)), seconds=2))
