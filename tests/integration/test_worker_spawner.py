"""Commands through the spawner: how they end, what they see, and that a failed set-up step refuses them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from tests.support import levels, sandbox_bench
from tests.support.sandbox_bench import BACKENDS, SECRET
from worker_node.sandbox import last_words
from worker_node.sandbox.events import MAX_WRITTEN_BYTES
from worker_node.sandbox.host import CommandEnd
from worker_node.sandbox.limits import NO_SETTINGS
from worker_node.sandbox.policy import INSIDE, SandboxPlan, plan_attempt

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")

ROOT = Path(__file__).parents[2]
BASIC, STRICT = SandboxLevel.BASIC, SandboxLevel.STRICT


@pytest.fixture
def play(tmp_path):
    """Return a function that runs a scene with a bench and closes it."""
    return partial(sandbox_bench.play, tmp_path)


@pytest.fixture(params=list(SandboxLevel))
def level(request):
    """Each level, if it is proven here."""
    levels.need(request.param)
    return request.param


def has_namespaces(level: SandboxLevel) -> bool:
    """Return whether commands of this level live in namespaces of their own."""
    return level.rank >= STRICT.rank


# --- ordinary ends -----------------------------------------------------------------------------------


def test_exit_code_output_and_use_are_reported(play, level):
    """A command's own end is told with its code, both streams, its time and its memory."""
    ending = play(lambda bench: bench.run("echo out; echo err >&2; exit 3", level))
    report = ending.report
    assert (report.failure_reason, report.exit_code, report.signal) == (FailureReason.EXIT_CODE, 3, None)
    assert (ending.outcome.stdout.data, ending.outcome.stderr.data) == (b"out\n", b"err\n")
    assert (report.sandbox, report.backend) == (level, BACKENDS[level])
    assert report.max_rss_bytes > 0
    assert report.cpu_seconds > 0


def test_exit_code_zero_is_success(play, level):
    """Nothing is wrong with a command that exits with 0."""
    assert play(lambda bench: bench.run("true", level)).report.failure_reason is None


def test_a_signal_is_told_apart_from_an_exit_code(play, level):
    """A shell that dies by a signal has no exit code."""
    report = play(lambda bench: bench.run("kill -9 $$", level)).report
    assert (report.failure_reason, report.exit_code, report.signal) == (FailureReason.SIGNAL, None, 9)


def test_bytes_that_are_no_text_come_through_unchanged(play, level):
    """Output is bytes: what is no UTF-8 is kept as it is."""
    assert play(lambda bench: bench.run(r"printf '\377\000\376'", level)).stdout == b"\xff\x00\xfe"


def test_a_flood_of_output_keeps_head_and_tail(play):
    """90 MB are read to the end, counted, and kept to 64 MiB on disk; a little of each end stands for them."""
    ending = play(lambda bench: bench.run("echo first; head -c 90000000 /dev/zero; echo; echo last"))
    kept = ending.outcome.stdout
    assert (kept.total_bytes, kept.is_truncated) == (90_000_012, True)
    assert kept.content is not None
    assert kept.content.size_bytes <= 64 << 20
    assert len(kept.data) <= 64 << 10
    assert kept.data.startswith(b"first\n")
    assert kept.data.endswith(b"\nlast\n")
    assert b"bytes left out" in kept.data


@pytest.mark.parametrize("size", [MAX_WRITTEN_BYTES - 1, MAX_WRITTEN_BYTES, MAX_WRITTEN_BYTES + 1, 60_000])
def test_output_comes_whole_however_much_a_short_command_writes(play, size):
    """What is too much for the word of its end stays in its pipe, and is read from there."""
    outcome = play(
        lambda bench: bench.run(f"head -c {size} /dev/zero; head -c {size} /dev/zero | tr '\\0' x >&2")
    ).outcome
    assert (outcome.stdout.data, outcome.stderr.data) == (b"\0" * size, b"x" * size)


def test_a_command_whose_output_cannot_be_taken_is_killed_and_lost(play, monkeypatch):
    """The worker has no descriptor left for it: what nobody would read is not run on."""
    receive = last_words.receive

    def receive_no_fds(*arguments):
        message, fds = receive(*arguments)
        for fd in fds:
            os.close(fd)
        return message, []

    monkeypatch.setattr(last_words, "receive", receive_no_fds)
    mark = "1000.00012345"

    async def scene(bench):
        ending = await bench.run(f"sleep {mark}")
        await sandbox_bench.until(lambda: not sandbox_bench.processes_with(mark))
        return ending.report

    report = play(scene)
    assert report.failure_reason is FailureReason.WORKER_LOST
    assert "too many open descriptors" in report.detail


def test_the_command_has_three_descriptors_and_no_input(play, level):
    """Standard input is empty and nothing else is inherited."""
    ending = play(lambda bench: bench.run("cat; ls /proc/self/fd", level))
    assert ending.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing itself


def test_ignored_signals_are_not_inherited(play, level):
    """A command meets a broken pipe as it would in a terminal."""
    ending = play(lambda bench: bench.run("grep -E 'Sig(Ign|Blk)' /proc/self/status", level))
    of_people = (1 << 31) - 1  # Beyond are the C library's own signals, 32 and 33.
    assert {int(word, 16) & of_people for word in ending.stdout.split()[1::2]} == {0}


def test_the_workspace_is_private_and_wiped(play, tmp_path, level):
    """The command starts in a folder of its own, and whatever it leaves there is gone, depth and modes included."""
    command = "pwd; stat -c %a .; umask; d=.; for i in $(seq 300); do mkdir deep; cd deep; done; touch f; chmod 0 ."

    async def scene(bench):
        shown = bench.host.seen_by_command(tmp_path / "work" / "attempt-1")
        return shown, (await bench.run(command, level)).stdout.decode().split()

    shown, seen = play(scene)
    assert seen == [INSIDE if has_namespaces(level) else shown, "700", "0077"]
    assert list((tmp_path / "work").iterdir()) == []


def test_an_attempt_finds_nothing_of_the_one_before_it(play, level):
    """One supervisor serves both, and each has its own empty folder."""

    async def scene(bench):
        await bench.run("echo here >mine", level)
        return (await bench.run("ls -A", level)).stdout

    assert play(scene) == b""


def test_an_order_that_says_only_what_is_new_keeps_nothing_of_the_attempt_before(play):
    """A variable that changes, one that comes and one that goes: each attempt has its own."""

    async def scene(bench):
        wishes = [{"A": "1"}, {"A": "2"}, {"A": "2", "B": "3"}, {}, {"B": "4"}]
        show = "echo $OCTASKLY_TASK_ID ${A-none} ${B-none}"
        return [(await bench.run(show, env=env)).stdout for env in wishes]

    assert play(scene) == [b"t0 1 none\n", b"t1 2 none\n", b"t2 2 3\n", b"t3 none none\n", b"t4 none 4\n"]


@pytest.mark.parametrize("level", [SandboxLevel.STRICT, SandboxLevel.VERY_STRICT])
def test_what_an_attempt_can_change_is_new_for_the_next_one(play, level):
    """Both come from one mould, and only what nobody can change is shared."""

    async def scene(bench):
        spoil = "echo here >/dev/shm/mine; chmod 0 /dev/pts/ptmx; ipcmk -Q >/dev/null; sh -c 'sleep 100 &'; readlink /proc/self/ns/user"
        first = await bench.run(spoil, level)
        look = "ls -A /dev/shm; tail -n +2 /proc/sysvipc/msg; ls -d /proc/[0-9]* | wc -l; stat -c %a /dev/pts/ptmx"
        second = await bench.run(f"{look}; readlink /proc/self/ns/user", level)
        return first.stdout.split(), second.stdout.split()

    first, second = play(scene)
    assert int(second[0]) <= 4, "processes of another attempt"
    assert second[1] == b"666"
    assert first == second[2:], "the mould was made anew, which is slow"


# --- environment and privileges ----------------------------------------------------------------------


def test_basic_shows_none_of_the_workers_secrets(play):
    """At basic the environment is what the task and we chose."""
    seen = play(lambda bench: bench.run("env", env={"MINE": "1", "OCTASKLY_TOKEN": "x"})).stdout.decode()
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert SECRET not in seen
    assert {"MINE", "HOME", "TMPDIR", "TERM", "PATH", "OCTASKLY_TASK_ID", "OCTASKLY_ATTEMPT"} <= names
    assert "OCTASKLY_TOKEN" not in names


def test_none_passes_the_environment_but_not_ours(play):
    """At none a command sees the worker's variables, except those of Octaskly."""
    seen = play(lambda bench: bench.run("env", SandboxLevel.NONE)).stdout.decode()
    assert f"CLOUD_KEY={SECRET}" in seen
    assert "OCTASKLY_JOIN_TOKEN" not in seen


def test_very_strict_shows_three_variables(play):
    """Nothing tells even what the task is called, unless the task itself says so."""
    levels.need(SandboxLevel.VERY_STRICT)
    seen = play(lambda bench: bench.run("env -u PWD -u OLDPWD -u SHLVL -u _ env", SandboxLevel.VERY_STRICT))
    names = {line.partition("=")[0] for line in seen.stdout.decode().splitlines()}
    assert names == {"PATH", "HOME", "TMPDIR"}


def test_what_makes_sandboxes_holds_no_secret_in_its_environment(play, level):
    """What could be read of a command's ancestors in /proc has nothing of the worker."""

    async def scene(bench):
        ending = bench.start(
            "read -r _ _ _ up _ </proc/$PPID/stat; cat /proc/$PPID/environ /proc/$up/environ; sleep 9", level
        )
        await ending.is_started.wait()
        spawner = psutil.Process(bench.host.spawner_pid)
        seen = [environment_of(process.pid) for process in (spawner, *spawner.children())]
        bench.runner.stop("t0.1", at_once=True)
        await ending.is_over.wait()
        return b"".join([ending.stdout, *seen])

    assert SECRET.encode() not in play(scene)


def environment_of(pid: int) -> bytes:
    """Return a process's environment; empty when it may not even be looked at."""
    with contextlib.suppress(PermissionError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def test_only_none_allows_new_privileges(play, level):
    """no_new_privs is on from basic upwards."""
    ending = play(lambda bench: bench.run("grep NoNewPrivs /proc/self/status", level))
    assert ending.stdout.split()[1] == (b"0" if level is SandboxLevel.NONE else b"1")


def test_no_command_is_root_and_two_at_once_are_two_users_where_root_gives_them_out(play, level):
    """Each slot of root's worker has a user of its own; an ordinary worker has but itself to give."""

    async def scene(bench):
        # In namespaces of their own all are user 1000, and the map says who that is outside.
        command = "id -u; stat -c %u .; cat /proc/self/uid_map"
        endings = [bench.start(command, level) for _ in range(2)]
        for ending in endings:
            await ending.is_over.wait()
        return [ending.stdout.decode().split() for ending in endings]

    outside = []
    for inside, owner, first, behind, _ in play(scene):
        assert inside == owner
        outside.append(int(behind) + int(inside) - int(first) if has_namespaces(level) else int(inside))
        assert (inside == "1000") is has_namespaces(level) or os.geteuid() == 1000
    if os.geteuid() == 0:
        assert len({0, *outside}) == 3
    else:
        assert outside == [os.geteuid()] * 2


# --- a set-up step that fails ------------------------------------------------------------------------


class Ear:
    """Hears of a plan that was made by hand."""

    def __init__(self) -> None:
        self.is_over = asyncio.Event()
        self.heard: object = None

    def started(self, at: float) -> None:
        self.heard = "started"

    def wrote(self, stream: str, data: bytes) -> None:
        self.heard = data

    def ended(self, end: CommandEnd) -> None:
        self.heard = end
        self.is_over.set()

    def refused(self, detail: str) -> None:
        self.heard = f"refused: {detail}"
        self.is_over.set()


@pytest.mark.parametrize("level", [BASIC, STRICT])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"workspace": "/nonexistent"}, "No such file or directory"),
        ({"rlimits": {"open_files": -5}}, "limit open_files: "),
        ({"rlimits": {"unheard_of": 1}}, "limit unheard_of: "),
        ({"argv": ["/nonexistent", "-c", "x"]}, "execute: "),
        ({"env": {"NAME": "nul\0byte"}}, "execute: "),
        ({"env": {"A=B": "c"}}, "execute: "),
        ({"oom_score_adj": 5000}, "oom score: "),
        ({"env": {"BIG": "x" * 3_000_000}}, "execute: "),
    ],
)
def test_a_failing_step_refuses_the_attempt(play, change, words, level):
    """Whatever cannot be set up as promised: the command never runs, and the refusal says what it was."""
    levels.need(level)

    async def scene(bench):
        folder = bench.workspaces.create("hand")
        plan = plan_attempt(
            AssignAttempt("t.1", "t", "touch ran", 10, level, allows_network=False),
            BACKENDS[level],
            bench.host.seen_by_command(folder),
            {},
            bench.host.facts,
            NO_SETTINGS,
        )
        whole = {**SandboxPlan.for_spawner(plan), **change}
        ear = Ear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SandboxPlan, "for_spawner", lambda self: whole)
            bench.host.launch(plan, ear)
        await ear.is_over.wait()
        assert list(folder.iterdir()) == []
        again = await bench.run("echo well", level)
        return ear.heard, again.stdout

    heard, again = play(scene)
    assert heard.startswith("refused: ")
    assert words in heard
    assert again == b"well\n"


def test_what_cannot_be_told_is_refused_and_costs_no_supervisor(play):
    """A variable of the worker that is no text: the idle supervisors go on to serve others."""

    async def scene(bench):
        for ending in [bench.start("sleep 0.1") for _ in range(2)]:
            await ending.is_over.wait()
        before = supervisors_of(bench)
        refusal = (await bench.run("true", env={"A": "\udcff"})).refusal
        assert (await bench.run("true")).report.failure_reason is None
        return before, refusal, supervisors_of(bench), len(bench.host._idle)

    before, refusal, after, idle = play(scene)
    assert "surrogates" in refusal
    assert (before, len(before)) == (after, idle)


def supervisors_of(bench) -> set[int]:
    """Return the supervisors that live."""
    return {process.pid for process in psutil.Process(bench.host.spawner_pid).children()}


def test_a_command_may_remove_its_own_folder(play):
    """Where it can: its supervisor goes on to look after it, and the end is told as ever."""
    report = play(lambda bench: bench.run('cd /; rmdir "$HOME"; sleep 0.3; exit 3')).report
    assert (report.failure_reason, report.exit_code) == (FailureReason.EXIT_CODE, 3)


def test_a_workspace_that_cannot_be_made_refuses_the_attempt(play, tmp_path):
    """A name that is taken is no workspace."""

    async def scene(bench):
        bench.workspaces.create("1")
        return (await bench.run("true")).refusal

    assert play(scene).startswith("workspace_failed")


# --- figures -----------------------------------------------------------------------------------------


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return psutil.Process().num_fds()


def test_the_spawner_loads_next_to_nothing():
    """A fork copies what is loaded: the spawner does without asyncio, ssl, typing, dataclasses and packages."""
    code = "import sys; sys.path.append('.'); import worker_node.sandbox.spawner; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, text=True).split()
    assert not {
        "asyncio",
        "ssl",
        "typing",
        "dataclasses",
        "inspect",
        "contextlib",
        "pathlib",
        "subprocess",
        "msgspec",
    } & set(loaded)
    assert not [name for name in loaded if name.startswith("octaskly_wire")]


def test_spawning_leaks_no_descriptor_and_takes_little(play, level, record_property, capsys):
    """A hundred commands later the worker has as many descriptors as before; the time is printed, not judged."""

    async def scene(bench):
        await bench.run("true", level)
        before = descriptors()
        times = []
        for _ in range(100):
            started_at = time.perf_counter()
            ending = await bench.run("true", level)
            times.append((time.perf_counter() - started_at) * 1000)
            assert ending.report.failure_reason is None
        assert descriptors() == before
        return statistics.median(times)

    p50_ms = play(scene)
    record_property("spawn_p50_ms", p50_ms)
    with capsys.disabled():
        sys.stdout.write(f" [{level}: spawn p50 {p50_ms:.1f} ms] ")
