"""The spawner with real processes: what a command sees, how it ends, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from octaskly_wire.messages import AssignAttempt, Limits
from octaskly_wire.vocabulary import Enforcement, FailureReason, SandboxLevel
from worker_node.core.outcome import Outcome
from worker_node.sandbox.host import CommandEnd
from worker_node.sandbox.policy import Backend, SandboxPlan, plan_attempt
from worker_node.sandbox.spawner_host import SpawnerHost
from worker_node.sandbox.workspace import Workspaces
from worker_node.shell.runner import Listener, Runner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")

PATIENCE_S = 60.0
ROOT = Path(__file__).parents[2]
SECRET = "the-workers-own-secret"


class Ending:
    """What became of one attempt."""

    def __init__(self) -> None:
        self.is_started = asyncio.Event()
        self.is_over = asyncio.Event()
        self.outcome: Outcome | None = None
        self.refusal = ""

    @property
    def report(self):
        assert self.outcome is not None, self.refusal
        return self.outcome.report

    @property
    def stdout(self) -> bytes:
        assert self.outcome is not None, self.refusal
        return self.outcome.stdout.data


class Bench:
    """A runner over a real spawner."""

    def __init__(self, folder: Path) -> None:
        self.host = SpawnerHost()
        self.workspaces = Workspaces(folder / "work")
        self._endings: dict[str, Ending] = {}
        listener = Listener(self._started, self._finished, self._refused)
        env = {**os.environ, "OCTASKLY_JOIN_TOKEN": SECRET, "CLOUD_KEY": SECRET}
        self.runner = Runner(self.host, self.workspaces, env, listener)

    def start(self, command: str, level: SandboxLevel = SandboxLevel.BASIC, **changes: Any) -> Ending:
        attempt_id = f"t{len(self._endings)}.1"
        fields = {"timeout_s": 50, "allows_network": False, **changes}
        ending = self._endings[attempt_id] = Ending()
        assignment = AssignAttempt(
            attempt_id=attempt_id, task_id=attempt_id[:-2], command=command, sandbox=level, **fields
        )
        self.runner.start(assignment, Backend.SPAWNER)
        return ending

    async def run(self, command: str, level: SandboxLevel = SandboxLevel.BASIC, **changes: Any) -> Ending:
        ending = self.start(command, level, **changes)
        await ending.is_over.wait()
        return ending

    def _started(self, attempt_id: str) -> None:
        self._endings[attempt_id].is_started.set()

    def _finished(self, attempt_id: str, outcome: Outcome) -> None:
        self._endings[attempt_id].outcome = outcome
        self._endings[attempt_id].is_over.set()

    def _refused(self, attempt_id: str, reason: object, detail: str) -> None:
        self._endings[attempt_id].refusal = f"{reason}: {detail}"
        self._endings[attempt_id].is_over.set()


@pytest.fixture
def play(tmp_path):
    """Return a function that runs a scene with a bench and closes it."""

    def play_scene(scene: Callable[[Bench], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            bench = Bench(tmp_path)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await scene(bench)
            finally:
                await bench.runner.close()

        return asyncio.run(main())

    return play_scene


def processes_with(mark: str) -> list[int]:
    """Return the processes that carry a mark in their command line."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(mark in word for word in process.info["cmdline"] or ())
    ]


async def until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; fail with its name when it does not come."""
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


def pids_in(path: Path, count: int = 1) -> list[int]:
    """Return the process ids that commands wrote to a file, once there are enough."""
    with contextlib.suppress(FileNotFoundError):
        lines = path.read_text().split()
        if len(lines) >= count:
            return [int(line) for line in lines]
    return []


def any_alive(pids: list[int]) -> bool:
    """Return whether one of the processes lives on."""
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return True
    return False


# --- ordinary ends -----------------------------------------------------------------------------------


def test_exit_code_output_and_use_are_reported(play):
    """A command's own end is told with its code, both streams, its time and its memory."""
    ending = play(lambda bench: bench.run("echo out; echo err >&2; exit 3"))
    report = ending.report
    assert (report.failure_reason, report.exit_code, report.signal) == (FailureReason.EXIT_CODE, 3, None)
    assert (ending.outcome.stdout.data, ending.outcome.stderr.data) == (b"out\n", b"err\n")
    assert report.max_rss_bytes > 0
    assert report.cpu_seconds > 0


def test_exit_code_zero_is_success(play):
    """Nothing is wrong with a command that exits with 0."""
    assert play(lambda bench: bench.run("true")).report.failure_reason is None


def test_a_signal_is_told_apart_from_an_exit_code(play):
    """A shell that dies by a signal has no exit code."""
    report = play(lambda bench: bench.run("kill -9 $$")).report
    assert (report.failure_reason, report.exit_code, report.signal) == (FailureReason.SIGNAL, None, 9)


def test_bytes_that_are_no_text_come_through_unchanged(play):
    """Output is bytes: what is no UTF-8 is kept as it is."""
    assert play(lambda bench: bench.run(r"printf '\377\000\376'")).stdout == b"\xff\x00\xfe"


def test_a_flood_of_output_keeps_head_and_tail(play):
    """50 MB are read to the end, counted, and kept to one megabyte with a marker between head and tail."""
    ending = play(lambda bench: bench.run("echo first; head -c 50000000 /dev/zero; echo; echo last"))
    kept = ending.outcome.stdout
    assert (kept.total_bytes, kept.is_truncated) == (50_000_012, True)
    assert len(kept.data) <= 1 << 20
    assert kept.data.startswith(b"first\n")
    assert kept.data.endswith(b"\nlast\n")
    assert b"bytes left out" in kept.data


def test_the_command_has_three_descriptors_and_no_input(play):
    """Standard input is empty and nothing else is inherited."""
    ending = play(lambda bench: bench.run("cat; ls /proc/self/fd"))
    assert ending.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing itself


def test_ignored_signals_are_not_inherited(play):
    """A command meets a broken pipe as it would in a terminal."""
    ending = play(lambda bench: bench.run("grep -E 'Sig(Ign|Blk)' /proc/self/status"))
    of_people = (1 << 31) - 1  # Beyond are the C library's own signals, 32 and 33.
    assert {int(word, 16) & of_people for word in ending.stdout.split()[1::2]} == {0}


def test_the_workspace_is_private_and_wiped(play, tmp_path):
    """The command starts in a folder of its own, and whatever it leaves there is gone, depth and modes included."""
    command = "pwd; stat -c %a .; umask; d=.; for i in $(seq 300); do mkdir deep; cd deep; done; touch f; chmod 0 ."
    ending = play(lambda bench: bench.run(command))
    pwd, mode, mask = ending.stdout.decode().split()
    assert (Path(pwd).parent, mode, mask) == (tmp_path / "work", "700", "0077")
    assert list((tmp_path / "work").iterdir()) == []


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


def test_the_spawner_and_supervisor_hold_no_secret_in_their_environment(play):
    """What a command could read of its ancestors in /proc has nothing of the worker."""
    command = (
        "tr '\\0' '\\n' </proc/$PPID/environ; read -r _ _ _ up _ </proc/$PPID/stat; tr '\\0' '\\n' </proc/$up/environ"
    )
    assert SECRET.encode() not in play(lambda bench: bench.run(command)).stdout


def test_only_basic_forbids_new_privileges(play):
    """no_new_privs is on at basic and off at none."""

    async def scene(bench):
        command = "grep NoNewPrivs /proc/self/status"
        return [
            (await bench.run(command, level)).stdout.split()[1] for level in (SandboxLevel.NONE, SandboxLevel.BASIC)
        ]

    assert play(scene) == [b"0", b"1"]


# --- limits ------------------------------------------------------------------------------------------


def test_kernel_limits_are_set_as_asked(play):
    """Memory, file size, open files and core size show in the command's own limits."""
    limits = Limits(memory_mb=100, disk_mb=10, open_files=50, cpu_seconds=7)
    ending = play(lambda bench: bench.run("cat /proc/self/limits; cat /proc/self/oom_score_adj", limits=limits))
    rows = {line[:26].strip(): line[26:].split() for line in ending.stdout.decode().splitlines()}
    assert rows["Max data size"][0] == str(100 << 20)
    assert rows["Max file size"][0] == str(10 << 20)
    assert rows["Max open files"][0] == "50"
    assert rows["Max core file size"][0] == "0"
    assert rows["Max cpu time"][0] == "7"
    assert rows["500"] == []
    assert ending.report.limits["open_files"] is Enforcement.KERNEL
    assert ending.report.limits["processes"] is Enforcement.POLLED


def test_processor_time_runs_out(play):
    """A busy loop ends at its limit, and the reason says so."""
    report = play(lambda bench: bench.run("while :; do :; done", limits=Limits(cpu_seconds=1))).report
    assert report.failure_reason is FailureReason.CPU_LIMIT


def test_a_file_cannot_grow_beyond_the_disk_limit(play):
    """SIGXFSZ of the shell's child is told as the disk limit, because the full file is there to prove it."""
    command = "head -c 100000000 /dev/zero >big; exit $?"
    assert (
        play(lambda bench: bench.run(command, limits=Limits(disk_mb=5))).report.failure_reason
        is FailureReason.DISK_LIMIT
    )


def test_an_exit_code_that_looks_like_a_limit_is_only_an_exit_code(play):
    """A command may exit with 153 or 152 for reasons of its own."""

    async def scene(bench):
        return [(await bench.run(f"exit {code}")).report.failure_reason for code in (152, 153)]

    assert play(scene) == [FailureReason.EXIT_CODE] * 2


def test_many_small_files_hit_the_disk_limit_too(play):
    """The folder as a whole is polled."""
    command = "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero >f$i; done"
    assert (
        play(lambda bench: bench.run(command, limits=Limits(disk_mb=20))).report.failure_reason
        is FailureReason.DISK_LIMIT
    )


def test_too_many_processes_end_the_attempt(play):
    """The count of the whole tree is polled."""
    command = "for i in $(seq 60); do sleep 100 & done; wait"
    report = play(lambda bench: bench.run(command, limits=Limits(processes=50))).report
    assert report.failure_reason is FailureReason.PROCESS_LIMIT


def test_memory_of_the_whole_tree_counts(play):
    """Three processes that each stay below the limit are together above it."""
    hog = f"{sys.executable} -c \"x = b'x' * (60 << 20); import time; time.sleep(100)\""
    report = play(lambda bench: bench.run(f"{hog} & {hog} & {hog} & wait", limits=Limits(memory_mb=120))).report
    assert report.failure_reason is FailureReason.MEMORY_LIMIT


# --- nothing is left ---------------------------------------------------------------------------------


def test_two_hundred_daemons_are_gone_when_the_command_is(play, tmp_path):
    """Background processes in sessions of their own end with the command that left them."""
    pids = tmp_path / "pids"
    command = (
        f"for i in $(seq 200); do setsid sh -c 'echo $$ >>{pids}; exec sleep 1000' & done; "
        f"while [ $(wc -l <{pids}) -lt 200 ]; do sleep 0.02; done; exit 0"
    )
    report = play(lambda bench: bench.run(command)).report
    assert report.failure_reason is None
    assert len(pids_in(pids, 200)) == 200
    assert not any_alive(pids_in(pids))


def test_a_pipe_held_by_a_daemon_does_not_hold_up_the_outcome(play):
    """A background process keeps standard output open, and the outcome comes all the same."""
    started_at = time.monotonic()
    assert play(lambda bench: bench.run("sleep 1000 & echo done")).stdout == b"done\n"
    assert time.monotonic() - started_at < 5


def test_a_timeout_kills_the_tree_after_a_grace(play, tmp_path):
    """TERM first; who ignores it gets KILL five seconds later, descendants included."""
    pids = tmp_path / "pids"
    command = (
        f"trap '' TERM; echo $$ >>{pids}; setsid sh -c 'echo $$ >>{pids}; exec sleep 1000' & sleep 1000; sleep 1000"
    )
    report = play(lambda bench: bench.run(command, timeout_s=1)).report
    assert report.failure_reason is FailureReason.TIMEOUT
    assert report.exit_code is None
    assert 5_900 <= report.duration_ms < 9_000
    assert not any_alive(pids_in(pids, 2))


def test_a_timeout_lets_a_command_tidy_up(play):
    """TERM can be caught, and the last words are kept."""
    command = "trap 'echo tidy; exit 0' TERM; while :; do sleep 0.1; done"
    ending = play(lambda bench: bench.run(command, timeout_s=1))
    assert (ending.report.failure_reason, ending.stdout) == (FailureReason.TIMEOUT, b"tidy\n")


def test_cancel_kills_the_tree(play, tmp_path):
    """A cancelled command's outcome says so and nothing of it lives on."""
    pids = tmp_path / "pids"

    async def scene(bench):
        ending = bench.start(f"echo $$ >>{pids}; setsid sh -c 'echo $$ >>{pids}; exec sleep 1000' & sleep 1000")
        await until(lambda: len(pids_in(pids, 2)) == 2)
        bench.runner.stop("t0.1", at_once=False)
        await ending.is_over.wait()
        return ending

    assert play(scene).report.failure_reason is FailureReason.CANCELLED
    assert not any_alive(pids_in(pids))


def test_a_fork_bomb_leaves_nobody(play, tmp_path):
    """Processes that fork while they are being killed are found again by the next sweep."""
    mark = f"mark-{os.getpid()}-{tmp_path.name}"
    bomb = f"import os, time, sys\nsys.argv.append('{mark}')\nfor _ in range(6): os.fork()\ntime.sleep(1000)"
    report = play(lambda bench: bench.run(f'{sys.executable} -c "{bomb}" {mark}', limits=Limits(processes=40))).report
    assert report.failure_reason is FailureReason.PROCESS_LIMIT
    assert processes_with(mark) == []


# --- death of ours -----------------------------------------------------------------------------------


def test_killing_the_spawner_kills_its_commands_and_a_new_one_serves(play, tmp_path):
    """kill -9 of the spawner: the attempts are told as lost, nothing is left, and the worker goes on."""
    pids = tmp_path / "pids"

    async def scene(bench):
        tree = f"echo $$ >>{pids}; setsid sh -c 'echo $$ >>{pids}; exec sleep 1000' & sleep 1000"
        endings = [bench.start(tree) for _ in range(5)]
        await until(lambda: len(pids_in(pids, 10)) == 10)
        old = bench.host.spawner_pid
        os.kill(old, signal.SIGKILL)
        for ending in endings:
            await ending.is_over.wait()
        again = await bench.run("echo again")
        assert bench.host.spawner_pid != old
        return [ending.report.failure_reason for ending in endings], again.stdout

    assert play(scene) == ([FailureReason.WORKER_LOST] * 5, b"again\n")
    assert not any_alive(pids_in(pids))


def test_killing_a_supervisor_kills_its_command(play, tmp_path):
    """The spawner is there for the daemons of a supervisor that was shot."""
    pids = tmp_path / "pids"

    async def scene(bench):
        ending = bench.start(f"echo $$ >>{pids}; setsid sh -c 'echo $$ >>{pids}; exec sleep 1000' & sleep 1000")
        await until(lambda: len(pids_in(pids, 2)) == 2)
        os.kill(psutil.Process(pids_in(pids)[0]).ppid(), signal.SIGKILL)
        await ending.is_over.wait()
        await until(lambda: not any_alive(pids_in(pids)))
        return ending.report.failure_reason, (await bench.run("echo again")).stdout

    assert play(scene) == (FailureReason.WORKER_LOST, b"again\n")


def test_killing_the_worker_kills_all_its_commands(tmp_path):
    """kill -9 of the worker leaves neither spawner nor supervisor nor command."""
    pids = tmp_path / "pids"
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from tests.integration.test_worker_spawner import Bench\n"
        "async def main():\n"
        f"    bench = Bench(Path({str(tmp_path)!r}))\n"
        f"    tree = \"trap '' TERM; echo $$ >>{pids}; setsid sh -c 'echo $$ >>{pids}; exec sleep 1000' & sleep 1000\"\n"
        "    for _ in range(5): bench.start(tree)\n"
        "    print(bench.host.spawner_pid, flush=True)\n"
        "    await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        spawner = int(worker.stdout.readline())
        asyncio.run(until(lambda: len(pids_in(pids, 10)) == 10))
        everyone = [spawner, *(process.pid for process in psutil.Process(spawner).children(recursive=True))]
        assert len(everyone) >= 1 + 5 + 10
        worker.kill()
    asyncio.run(until(lambda: not any_alive(everyone), seconds=1))


# --- a set-up step that fails ------------------------------------------------------------------------


class Ear:
    """Hears of a plan that was made by hand."""

    def __init__(self) -> None:
        self.is_over = asyncio.Event()
        self.heard: object = None

    def started(self) -> None:
        self.heard = "started"

    def wrote(self, stream: str, data: bytes) -> None:
        self.heard = data

    def ended(self, end: CommandEnd) -> None:
        self.heard = end
        self.is_over.set()

    def refused(self, detail: str) -> None:
        self.heard = f"refused: {detail}"
        self.is_over.set()


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"workspace": "/nonexistent"}, "working folder"),
        ({"rlimits": {"open_files": -5}}, "limit open_files"),
        ({"rlimits": {"unheard_of": 1}}, "limit unheard_of"),
        ({"argv": ["/nonexistent", "-c", "x"]}, "execute"),
        ({"env": {"NAME": "nul\0byte"}}, "execute"),
        ({"env": {"A=B": "c"}}, "execute"),
        ({"oom_score_adj": 5000}, "oom score"),
        ({"no_new_privileges": None, "env": {"BIG": "x" * 3_000_000}}, "execute"),
    ],
)
def test_a_failing_step_refuses_the_attempt(play, tmp_path, change, step):
    """Whatever cannot be set up as promised: the command never runs, and the step is named."""

    async def scene(bench):
        folder = bench.workspaces.create("hand")
        ran = tmp_path / "ran"
        plan = plan_attempt(
            AssignAttempt("t.1", "t", f"touch {ran}", 10, SandboxLevel.BASIC, allows_network=False),
            Backend.SPAWNER,
            str(folder),
            {},
        )
        whole = {**SandboxPlan.for_spawner(plan), **change}
        ear = Ear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SandboxPlan, "for_spawner", lambda self: whole)
            bench.host.launch(plan, ear)
        await ear.is_over.wait()
        assert not ran.exists()
        return ear.heard

    assert play(scene).startswith(f"refused: {step}: ")


def test_a_workspace_that_cannot_be_made_refuses_the_attempt(play, tmp_path):
    """A name that is taken is no workspace."""

    async def scene(bench):
        bench.workspaces.create("t0.1")
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
    assert not {"asyncio", "ssl", "typing", "dataclasses", "inspect", "contextlib", "msgspec"} & set(loaded)
    assert not [name for name in loaded if name.startswith("octaskly_wire")]


def test_spawning_leaks_no_descriptor_and_takes_little(play, record_property, capsys):
    """A hundred commands later the worker has as many descriptors as before; the time is printed, not judged."""

    async def scene(bench):
        await bench.run("true")
        before = descriptors()
        times = []
        for _ in range(100):
            started_at = time.perf_counter()
            ending = await bench.run("true")
            times.append((time.perf_counter() - started_at) * 1000)
            assert ending.report.failure_reason is None
        assert descriptors() == before
        return statistics.median(times)

    p50_ms = play(scene)
    record_property("spawn_p50_ms", p50_ms)
    with capsys.disabled():
        sys.stdout.write(f" [spawn p50 {p50_ms:.1f} ms] ")
