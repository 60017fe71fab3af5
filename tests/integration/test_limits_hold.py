"""Whatever a command tries to take beyond its limits, it does not get far, and the outcome names the limit.

The table says how each bomb ends at each level, as root and as an ordinary user. Its figures are measured from
outside, many times a second, while the real spawner runs the bomb: see `tests/support/bombs.py`.

    M D P C T   killed, with memory, disk, process, cpu limit or time-out as the reason
    r           refused by the kernel: the command meets an error and fails by itself
    h           held by the kernel; whether the command then fails, is killed or does with less is chance
    s           survives, and may: nothing of it counts
    G           survives although it should not: a gap that the worker declares
    -           not run there
"""

from __future__ import annotations

import functools
import os
import shutil
import sys

import pytest

from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import Enforcement, FailureReason, SandboxLevel
from tests.support import sandbox_bench
from tests.support.measured_once import measured_once
from tests.support.other_user import NoOtherUser, as_ordinary_user

if sys.platform == "linux":
    from tests.support import bombs
    from tests.support.bombs import MIB
    from worker_node.sandbox.environment import DEFAULT_PATH
else:
    pytest.skip("limits are kept on Linux", allow_module_level=True)

COLUMNS = [f"{level}/{user}" for level in ("basic", "strict", "very_strict") for user in ("root", "user")]
TABLE = """
                        basic        strict       very_strict
                        root  user   root  user   root  user
heap                    M     M      M     M      M     M
tree                    M     M      M     M      M     M
shared_mmap             M     M      M     M      M     M
memfd                   M     G      M     r      r     r
sysv                    M     G      M     r      r     r
semaphores              M     G      M     r      r     r
dev_shm                 M     G      r     r      r     r
empty_files_in_memory   -     -      r     r      r     r
fork_shell              h     P      h     h      h     h
fork_and_spin           P     P      P     P      P     P
one_file                D     D      D     D      D     D
many_files              D     D      D     D      D     D
unlinked_files          D     D      D     D      r     r
hidden_folder           D     D      D     D      D     D
small_files             D     D      D     D      D     D
files_behind_a_crowd    D     D      D     D      D     D
sparse_files            s     s      s     s      s     s
busy                    -     C      C     -      -     -
busy_children           -     -      -     C      -     -
busy_orphans            C     -      -     -      -     C
late                    -     T      T     -      -     -
open_files              r     r      r     r      r     r
flood                   s     s      s     s      s     s
great_flood             -     -      s     -      -     -
"""
EXPECTED = {
    (column, name): cell
    for name, *cells in (line.split() for line in TABLE.strip().splitlines()[2:])
    for column, cell in zip(COLUMNS, cells, strict=True)
    if cell != "-"
}
REASONS = {
    "M": FailureReason.MEMORY_LIMIT,
    "D": FailureReason.DISK_LIMIT,
    "P": FailureReason.PROCESS_LIMIT,
    "C": FailureReason.CPU_LIMIT,
    "T": FailureReason.TIMEOUT,
    "r": FailureReason.EXIT_CODE,
    "s": "",
    "G": "",
}

UNCOUNTED, LASTING = "is not counted", "stay after their command"
"""How the worker's owner is told of the gaps."""

MEMORY_BYTES = bombs.MEMORY_MB * MIB
MOST_MEMORY_BYTES = {
    Enforcement.KERNEL: MEMORY_BYTES * 1.05,
    Enforcement.POLLED: MEMORY_BYTES * 1.5 + 64 * MIB,
}
MOST_DISK_BYTES = {
    Enforcement.KERNEL: bombs.DISK_MB * MIB,
    Enforcement.POLLED: (bombs.DISK_MB + 150) * MIB,
}
OWN_PROCESSES = 4
"""Of the sandbox and of the next one, which is made meanwhile."""
MOST_WORKER_GROWTH_BYTES = 32 * MIB
OUTPUT_KEPT_BYTES = MIB
DEAD_WITHIN_S = 1.5
"""From its start: half a second to get there, and one to die."""
MOST_SLOWDOWN, NEIGHBOURS = 2.0, 3


@functools.cache
def _exploded(column: str, family: str) -> dict[str, dict] | str:
    """Return the measurements of all bombs of one family in one column, or why there are none."""
    names = [name for name in getattr(bombs, family) if (column, name) in EXPECTED]
    return _called_as(column, "explode", names)


def _called_as(column: str, function: str, argument: object):
    if shutil.which("python3", path=DEFAULT_PATH) is None:
        return f"needs python3 in {DEFAULT_PATH}"
    level, _, user = column.partition("/")
    if user == "root":
        return getattr(bombs, function)(argument, level) if os.geteuid() == 0 else "needs root"
    try:
        return as_ordinary_user(f"tests.support.bombs:{function}", argument, level)
    except NoOtherUser as reason:
        return str(reason)


def family_of(name: str) -> str:
    """Return which bombs this one is measured with."""
    return next(family for family in bombs.FAMILIES if name in getattr(bombs, family))


def measured(column: str, name: str) -> dict:
    """Return the measurements of a bomb, or skip with the reason."""
    found = _exploded(column, family_of(name))
    if isinstance(found, str):
        pytest.skip(found)
    if "unavailable" in found[name]:
        pytest.skip(f"not proven here: {found[name]['unavailable']}")
    return found[name]


def cell_of(column: str, name: str) -> str:
    """Return what the table says. Whether the kernel holds memory is a matter of rights, which root mostly has."""
    if name in bombs.MEMORY:
        column = f"{column.partition('/')[0]}/{'root' if measured(column, name)['has_group'] else 'user'}"
    return EXPECTED[column, name]


def cases(*families: dict) -> pytest.MarkDecorator:
    """Return all cases of the table about bombs of these families."""
    return pytest.mark.parametrize(
        ("column", "name"),
        [
            measured_once(column, f"{family_of(name)} at {column}", column, name)
            for column, name in EXPECTED
            if any(name in family for family in families)
        ],
    )


@cases(bombs.BOMBS)
def test_the_outcome_names_the_limit(column, name):
    """A bomb ends as the table says, and is never taken for a lost worker or a success."""
    seen = measured(column, name)
    cell = cell_of(column, name)
    if cell == "h":
        assert seen["reason"] in {REASONS["P"], FailureReason.EXIT_CODE, ""}, seen
    else:
        assert (seen["reason"], seen["survived"]) == (REASONS[cell], cell in "sG"), seen
    if cell == "G":
        assert any(UNCOUNTED in gap for gap in seen["gaps"])


@cases(bombs.BOMBS)
def test_nothing_is_left(column, name):
    """When the end is told no process, file, memory segment, workspace or control group of the bomb is there."""
    seen = measured(column, name)
    left = seen["left"]
    if column == "basic/user":
        # The tasks have no user of their own, so nobody can tell what they left in memory from what others own.
        assert any(LASTING in gap for gap in seen["gaps"])
        left = [thing for thing in left if not thing.startswith(("/dev/shm", "shm", "sem"))]
    assert left == []


@cases(bombs.BOMBS)
def test_the_worker_does_not_grow(column, name):
    """What a bomb throws about does not pile up in the worker."""
    assert measured(column, name)["worker_bytes"] < MOST_WORKER_GROWTH_BYTES


@cases(bombs.MEMORY)
def test_memory_is_held(column, name):
    """The kernel lets a tree of processes have five per cent more at most, polling half as much and 64 MiB."""
    seen = measured(column, name)
    kind = seen["limits"]["memory_mb"]
    assert kind == (Enforcement.KERNEL if seen["has_group"] else Enforcement.POLLED)
    if cell_of(column, name) != "G":
        assert seen["memory_bytes"] <= MOST_MEMORY_BYTES[kind], f"{seen['memory_bytes'] / MIB:.0f} MiB"


@cases(bombs.FORKS)
def test_a_fork_bomb_is_stopped(column, name):
    """It is dead soon, though it is deaf; where the kernel counts it never had more than it may."""
    seen = measured(column, name)
    kind = seen["limits"]["processes"]
    if EXPECTED[column, name] == "P":
        assert seen["seconds"] < DEAD_WITHIN_S, seen
    assert kind == (Enforcement.POLLED if column == "basic/user" else Enforcement.KERNEL)
    if kind == Enforcement.KERNEL:
        assert seen["processes"] <= bombs.PROCESSES + OWN_PROCESSES


@cases(bombs.DISK)
def test_disk_is_held(column, name):
    """A /tmp in memory is exact; polling lets 150 MiB more through, whatever the files are called or hide behind."""
    seen = measured(column, name)
    kind = seen["limits"]["disk_mb"]
    assert kind == (Enforcement.KERNEL if column.startswith("very_strict") else Enforcement.POLLED)
    assert seen["disk_bytes"] <= MOST_DISK_BYTES[kind], f"{seen['disk_bytes'] / MIB:.0f} MiB"


@cases(bombs.CPU)
def test_processor_time_is_held(column, name):
    """Time counts in the process that uses it, in its children that are gone, and in orphans."""
    seen = measured(column, name)
    assert (seen["limits"]["cpu_seconds"], seen["limits"]["cpu_seconds_per_process"]) == ("polled", "kernel")


@cases({"open_files"})
def test_open_files_are_held(column, name):
    """The kernel refuses one file more."""
    seen = measured(column, name)
    assert seen["limits"]["open_files"] == Enforcement.KERNEL
    assert "Too many open files" in seen["stderr"]


@cases({"late"})
def test_time_is_held(column, name):
    """A command that is late is ended then, and not much later."""
    seen = measured(column, name)
    assert seen["limits"]["timeout_s"] == Enforcement.POLLED
    assert 1 <= seen["seconds"] < 2


@cases({"flood", "great_flood"})
def test_a_flood_is_counted_and_cut(column, name):
    """Output of any size and content is read to its end, and as much of it kept as may be."""
    seen = measured(column, name)
    poured = bombs.GREAT_FLOOD_BYTES if name == "great_flood" else bombs.FLOOD_BYTES
    assert seen["stdout_bytes"] == poured + len(f"{bombs.SURVIVED}\n")
    assert seen["is_truncated"]
    assert seen["kept_bytes"] <= OUTPUT_KEPT_BYTES


@pytest.mark.parametrize("column", COLUMNS[:4])
def test_neighbours_can_go_on_working(column):
    """Beside fork bombs a neighbour takes less than twice as long as beside honest work.

    The honest work is one task that keeps every processor busy, which any task may do: it is in one slot, like the
    bomb. Against an idle machine the figure would tell how many processors there are.
    """
    slowdowns = []
    # Whatever else the machine does makes the figure worse by chance, and a neighbour that starves is so each time.
    for _ in range(NEIGHBOURS):
        seen = _called_as(column, "neighbour_beside", "fork_and_spin")
        if isinstance(seen, str) or "unavailable" in seen:
            pytest.skip(str(seen))
        slowdowns.append(seen["beside_bomb"] / seen["beside_honest"])
        if slowdowns[-1] < MOST_SLOWDOWN:
            return
    pytest.fail(f"slower by {slowdowns}")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only then a slot's tasks have something of their own")
@pytest.mark.parametrize("level", [SandboxLevel.BASIC, SandboxLevel.STRICT])
def test_the_next_task_does_not_pay_for_the_last(tmp_path, level):
    """What a task leaves in shared memory is gone before the slot's next one, whose memory it would be."""

    async def scene(bench):
        limits, env = Limits(memory_mb=bombs.MEMORY_MB), {"PATH": DEFAULT_PATH}
        name = f"octaskly-test-{os.getpid()}"
        fill = (
            f"head -c 60M /dev/zero | tee /dev/shm/{name}-1 /dev/shm/{name}-2 /dev/shm/{name}-3 >/dev/null; ls /dev/shm"
        )
        use = f"ls /dev/shm | grep -c {name}; exec python3 -c 'kept = bytes(range(256)) * (160 << 12)'"
        return [await bench.run(command, level, env=env, limits=limits) for command in (fill, use)]

    filled, used = sandbox_bench.play(tmp_path, scene)
    assert b"-1" in filled.stdout
    assert (used.stdout, used.report.failure_reason) == (b"0\n", None)


def test_every_bomb_is_in_the_table():
    """A bomb that nobody wrote down holds nobody to anything."""
    assert {name for _, name in EXPECTED} == set(bombs.BOMBS)
