"""Plans, environments and reports, decided without a process."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from octaskly_wire.messages import AssignAttempt, InputFile, Limits
from octaskly_wire.vocabulary import Enforcement, FailureReason, SandboxLevel
from worker_node.sandbox.environment import task_environment
from worker_node.sandbox.host import CommandEnd, EndCause, report_of
from worker_node.sandbox.limits import NO_SETTINGS, LimitSettings
from worker_node.sandbox.policy import Backend, HostFacts, SandboxPlan, SandboxSpec, plan_attempt

WORKER_ENV = {
    "PATH": "/usr/bin",
    "LANG": "de_AT.UTF-8",
    "LC_TIME": "C",
    "TZ": "UTC",
    "HOME": "/home/owner",
    "AWS_SECRET": "s",
    "OCTASKLY_JOIN_TOKEN": "t",
    "octaskly_sneaky": "t",
}

NONE, BASIC, STRICT, VERY_STRICT = SandboxLevel
KERNEL, POLLED = Enforcement.KERNEL, Enforcement.POLLED

BARE = HostFacts()
"""An ordinary user's worker on a kernel without Landlock, with no control group of its own."""
RICH = HostFacts(has_memory_group=True, has_own_users=True, landlock_abi=7)
"""Root's worker on a new kernel."""

BACKENDS = {
    NONE: Backend.SPAWNER,
    BASIC: Backend.SPAWNER,
    STRICT: Backend.NAMESPACES,
    VERY_STRICT: Backend.NAMESPACES_AND_LANDLOCK,
}
MIB = 1 << 20


def assignment(level: SandboxLevel = BASIC, **changes) -> AssignAttempt:
    """Return the third attempt of a task."""
    usual = {"attempt_id": "task.3", "task_id": "task", "command": "true", "timeout_s": 10, "allows_network": False}
    return AssignAttempt(sandbox=level, **(usual | changes))


def plan_for(
    level: SandboxLevel = BASIC, facts: HostFacts = BARE, settings: LimitSettings = NO_SETTINGS, **changes
) -> SandboxPlan:
    """Return the plan of an attempt at a level."""
    return plan_attempt(assignment(level, **changes), BACKENDS[level], "/w", WORKER_ENV, facts, settings)


def test_basic_denies_by_default():
    """Only the listed names pass, and home is the workspace."""
    assert task_environment(assignment(), "/w", WORKER_ENV) == {
        "PATH": "/usr/bin",
        "LANG": "de_AT.UTF-8",
        "LC_TIME": "C",
        "TZ": "UTC",
        "TERM": "dumb",
        "HOME": "/w",
        "TMPDIR": "/w",
        "OCTASKLY_TASK_ID": "task",
        "OCTASKLY_ATTEMPT": "3",
    }


def test_none_passes_all_but_ours():
    """The worker's environment is the task's, without OCTASKLY_* in any spelling."""
    env = task_environment(assignment(NONE), "/w", WORKER_ENV)
    assert env["AWS_SECRET"] == "s"
    assert env["HOME"] == "/home/owner"
    assert {name for name in env if name.upper().startswith("OCTASKLY_")} == {"OCTASKLY_TASK_ID", "OCTASKLY_ATTEMPT"}


@pytest.mark.parametrize("level", [NONE, BASIC, STRICT])
def test_the_tasks_own_variables_win_but_cannot_pose_as_ours(level):
    """A task may set PATH and HOME, never OCTASKLY_*."""
    wishes = {"PATH": "/opt", "HOME": "/h", "OCTASKLY_TASK_ID": "forged", "OCTASKLY_URL": "x"}
    env = task_environment(assignment(level, env=wishes), "/w", WORKER_ENV)
    assert (env["PATH"], env["HOME"], env["OCTASKLY_TASK_ID"]) == ("/opt", "/h", "task")
    assert "OCTASKLY_URL" not in env


def test_a_worker_without_path_still_gives_one():
    """A service manager may start the worker with an empty environment."""
    assert "/bin" in task_environment(assignment(), "/w", {})["PATH"]


def test_very_strict_shows_three_variables_and_what_the_task_wishes():
    """Nothing of the worker passes, and nobody is told what the task is called."""
    three = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp"}
    assert plan_for(VERY_STRICT).env == three
    wishes = {"MINE": "1", "PATH": "/opt", "OCTASKLY_TASK_ID": "forged"}
    assert plan_for(VERY_STRICT, env=wishes).env == {**three, "MINE": "1", "PATH": "/opt"}


def test_home_is_where_the_command_sees_its_workspace():
    """A sandbox of namespaces has it at /tmp; below that it is the folder itself."""
    homes = {level: plan_for(level).env["HOME"] for level in SandboxLevel}
    assert homes == {NONE: "/home/owner", BASIC: "/w", STRICT: "/tmp", VERY_STRICT: "/tmp"}


# --- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "facts", "rlimits", "polled", "group_bytes"),
    [
        (
            BASIC,
            BARE,
            {"core": 0, "open_files": 1024, "file_bytes": 1024 * MIB, "data_bytes": 1024 * MIB},
            {"memory_bytes": 1024 * MIB, "disk_bytes": 1024 * MIB, "processes": 256},
            0,
        ),
        (
            # One process more than allowed, so that the poll sees that the limit was met.
            BASIC,
            RICH,
            {"core": 0, "open_files": 1024, "file_bytes": 1024 * MIB, "processes": 257},
            {"disk_bytes": 1024 * MIB, "processes": 256},
            1024 * MIB,
        ),
        (
            # And one for the sandbox's first process, and one for the keeper of its mould.
            STRICT,
            BARE,
            {"core": 0, "open_files": 1024, "file_bytes": 1024 * MIB, "data_bytes": 1024 * MIB, "processes": 259},
            {"memory_bytes": 1024 * MIB, "disk_bytes": 1024 * MIB, "processes": 256},
            0,
        ),
        (
            STRICT,
            RICH,
            {"core": 0, "open_files": 1024, "file_bytes": 1024 * MIB, "processes": 259},
            {"disk_bytes": 1024 * MIB, "processes": 256},
            1024 * MIB,
        ),
        (
            # The disk is a file system in memory: it needs no poll.
            VERY_STRICT,
            RICH,
            {"core": 0, "open_files": 1024, "file_bytes": 256 * MIB, "processes": 67},
            {"processes": 64},
            1024 * MIB,
        ),
    ],
    ids=["basic", "basic as root", "strict", "strict as root", "very_strict as root"],
)
def test_what_a_task_does_not_ask_for_is_limited_all_the_same(level, facts, rlimits, polled, group_bytes):
    """Each limit is with whom it can be: the kernel for one process or for all, or the poll."""
    plan = plan_for(level, facts)
    assert (plan.terms.rlimits, plan.terms.polled, plan.terms.group_bytes) == (rlimits, polled, group_bytes)
    assert "cpu_seconds" not in plan.terms.enforcement


def test_none_is_limited_like_basic():
    """The levels differ in what a command sees and may, not in how much it may take."""
    for facts in (BARE, RICH):
        none, basic = plan_for(NONE, facts).terms, plan_for(BASIC, facts).terms
        assert (none.rlimits, none.polled, none.group_bytes) == (basic.rlimits, basic.polled, basic.group_bytes)


ALWAYS = {"open_files": KERNEL, "timeout_s": POLLED, "output_kb": POLLED}
MEMORY_POLLED = {"memory_mb": POLLED, "memory_mb_per_process": KERNEL}
DISK_POLLED = {"disk_mb": POLLED, "disk_mb_per_file": KERNEL}


@pytest.mark.parametrize(
    ("level", "facts", "expected"),
    [
        (BASIC, BARE, {"processes": POLLED} | MEMORY_POLLED | DISK_POLLED),
        (BASIC, RICH, {"processes": KERNEL, "memory_mb": KERNEL} | DISK_POLLED),
        (BASIC, replace(BARE, has_memory_group=True), {"processes": POLLED, "memory_mb": KERNEL} | DISK_POLLED),
        (STRICT, BARE, {"processes": KERNEL} | MEMORY_POLLED | DISK_POLLED),
        (STRICT, RICH, {"processes": KERNEL, "memory_mb": KERNEL} | DISK_POLLED),
        (VERY_STRICT, BARE, {"processes": KERNEL, "disk_mb": KERNEL} | MEMORY_POLLED),
        (VERY_STRICT, RICH, {"processes": KERNEL, "disk_mb": KERNEL, "memory_mb": KERNEL}),
    ],
)
def test_the_report_says_who_holds_which_limit(level, facts, expected):
    """What the kernel holds for a single process only is polled for the whole, and that is said."""
    assert plan_for(level, facts).terms.enforcement == ALWAYS | expected


def test_processor_time_is_held_for_each_process_and_polled_for_all():
    """Only a task that asks for it, or an owner who caps it, has that limit."""
    for plan in (plan_for(limits=Limits(cpu_seconds=3)), plan_for(settings=LimitSettings(caps=Limits(cpu_seconds=3)))):
        assert (plan.terms.rlimits["cpu_seconds"], plan.terms.polled["cpu_seconds"]) == (3, 3)
        assert (plan.terms.enforcement["cpu_seconds"], plan.terms.enforcement["cpu_seconds_per_process"]) == (
            POLLED,
            KERNEL,
        )


def test_a_tasks_wish_goes_before_the_owners_default_which_goes_before_ours():
    """And all of them stay below the owner's caps."""
    settings = LimitSettings(
        defaults=Limits(memory_mb=200, processes=9), caps=Limits(memory_mb=300, disk_mb=50), output_bytes=4096
    )
    plan = plan_for(settings=settings, limits=Limits(memory_mb=250, open_files=20))
    assert plan.terms.rlimits == {"core": 0, "open_files": 20, "file_bytes": 50 * MIB, "data_bytes": 250 * MIB}
    assert plan.terms.polled == {"memory_bytes": 250 * MIB, "disk_bytes": 50 * MIB, "processes": 9}
    assert plan.terms.limits.output_bytes == 4096
    assert plan_for(settings=settings).terms.polled["memory_bytes"] == 200 * MIB
    assert plan_for(settings=settings, limits=Limits(memory_mb=5000)).terms.polled["memory_bytes"] == 300 * MIB


def test_a_backend_that_keeps_no_limits_claims_none():
    """On macOS and Windows the report's table is empty."""
    wish = assignment(limits=Limits(memory_mb=64))
    plan = plan_attempt(wish, Backend.POSIX, "/w", {}, BARE, NO_SETTINGS)
    assert (plan.terms.rlimits, plan.terms.polled, plan.terms.group_bytes, plan.terms.enforcement) == ({}, {}, 0, {})


# --- walls -------------------------------------------------------------------------------------------


def test_new_privileges_are_possible_at_none_only():
    """From basic upwards setuid programs are powerless."""
    assert [level for level in SandboxLevel if not plan_for(level).terms.no_new_privileges] == [NONE]


def test_below_strict_there_is_no_sandbox_of_namespaces():
    """Nothing of the host is hidden from them, and no fact of the host changes that."""
    for level in (NONE, BASIC):
        assert plan_for(level, RICH, allows_network=True).terms.sandbox is None


@pytest.mark.parametrize("has_memory_group", [False, True])
def test_strict_has_no_network_and_needs_no_landlock_for_that(has_memory_group):
    """Memory that no poll would see is denied only where polling is what holds it."""
    facts = replace(RICH, has_memory_group=has_memory_group)
    assert plan_for(STRICT, facts).terms.sandbox == SandboxSpec(
        allows_network=False,
        tmp_bytes=0,
        landlock_abi=0,
        is_very_strict=False,
        denies_hidden_memory=not has_memory_group,
    )


@pytest.mark.parametrize("landlock_abi", [0, 7])
def test_strict_with_the_network_keeps_the_hosts_sockets_away_where_the_kernel_can(landlock_abi):
    """Only a task that asks for the network gets it, and Landlock with it."""
    spec = plan_for(STRICT, replace(RICH, landlock_abi=landlock_abi), allows_network=True).terms.sandbox
    assert (spec.allows_network, spec.landlock_abi) == (True, landlock_abi)


@pytest.mark.parametrize("asks_for_network", [False, True])
@pytest.mark.parametrize("facts", [replace(BARE, landlock_abi=4), RICH])
def test_very_strict_never_has_the_network_and_its_disk_is_memory(facts, asks_for_network):
    """Whatever the assignment says, and however much the host could allow."""
    plan = plan_for(VERY_STRICT, facts, allows_network=asks_for_network, limits=Limits(disk_mb=10))
    assert plan.terms.sandbox == SandboxSpec(
        allows_network=False,
        tmp_bytes=10 * MIB,
        landlock_abi=facts.landlock_abi,
        is_very_strict=True,
        denies_hidden_memory=True,
    )


INPUTS = [InputFile("in/deep/a", "a" * 64, 1), InputFile("in/b", "b" * 64, 3 * MIB), InputFile("c", "c" * 64, 0)]


def test_the_room_of_inputs_comes_on_top_of_what_a_command_may_write():
    """Counted as the measure does: whole pages, and one at least for each file and folder."""
    room = (1 + 768 + 1 + 2) * 4096
    for level in (NONE, BASIC, STRICT):
        plan = plan_for(level, limits=Limits(disk_mb=2), inputs=INPUTS)
        assert plan.terms.polled["disk_bytes"] == plan.terms.rlimits["file_bytes"] == 2 * MIB + room


def test_a_disk_in_memory_has_room_for_what_its_inputs_hang_on():
    """Their contents stay on the disk: a page for each of three files and two folders."""
    plan = plan_for(VERY_STRICT, RICH, limits=Limits(disk_mb=2), inputs=INPUTS)
    assert plan.terms.sandbox.tmp_bytes == 2 * MIB + 5 * 4096


def test_a_supervisor_hears_of_inputs_and_of_the_folders_that_they_lie_in():
    """Each folder after the one that it lies in."""
    read = plan_for(STRICT, inputs=INPUTS).for_spawner()
    assert read["inputs"] == ["in/deep/a", "in/b", "c"]
    assert read["folders"] == ["in", "in/deep"]


def test_a_disk_in_memory_outlives_its_sandbox_only_for_outputs():
    """Anywhere else the workspace is on the disk and stays."""
    keeping = [
        level for level in SandboxLevel if (spec := plan_for(level, outputs=["*"]).terms.sandbox) and spec.keeps_tmp
    ]
    assert keeping == [VERY_STRICT]
    assert not plan_for(VERY_STRICT).terms.sandbox.keeps_tmp


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attempt_id": "other.1", "task_id": "other"},
        {"command": "false"},
        {"env": {"MINE": "2", "MORE": "3"}},
    ],
)
def test_what_is_new_since_another_plan_makes_the_whole_of_it(changes):
    """A supervisor that knows the one before needs no more."""
    before, after = plan_for(env={"MINE": "1"}), plan_for(**{"env": {"MINE": "1"}, **changes})
    new, new_env = after.changes_since(before)
    known = before.for_spawner()
    assert known | new | {"env": known["env"] | new_env} == after.for_spawner()
    assert len(new) + len(new_env) <= len(changes) + len(changes.get("env", {}))


def test_another_workspace_is_new_in_a_plan():
    """A supervisor is not bound to the one it had."""
    one, other = (plan_attempt(assignment(), Backend.SPAWNER, folder, {}, BARE, NO_SETTINGS) for folder in ("/v", "/w"))
    assert other.changes_since(one) == ({"workspace": "/w"}, {"HOME": "/w", "TMPDIR": "/w"})


@pytest.mark.parametrize(
    "changes",
    [{"env": {}}, {"timeout_s": 11}, {"limits": Limits(memory_mb=7)}, {"inputs": INPUTS}],
)
def test_what_no_change_can_say_is_told_anew(changes):
    """A variable that is gone, and other terms."""
    before, after = plan_for(env={"MINE": "1"}), plan_for(**{"env": {"MINE": "1"}, **changes})
    assert after.changes_since(before) is None


@pytest.mark.parametrize("level", list(SandboxLevel))
def test_a_supervisor_reads_the_whole_plan(level):
    """It travels as JSON, with the command as a shell's argument."""
    plan = plan_for(level, RICH)
    read = json.loads(json.dumps(plan.for_spawner()))
    assert read["argv"] == ["/bin/sh", "-c", "true"]
    assert (read["workspace"], read["timeout_s"], read["canary"]) == ("/w", 10, None)
    assert (read["rlimits"], read["polled"], read["group_bytes"]) == (
        plan.terms.rlimits,
        plan.terms.polled,
        plan.terms.group_bytes,
    )
    assert (read["sandbox"] is None) is (plan.terms.sandbox is None)


# --- ends --------------------------------------------------------------------------------------------


EXITED = CommandEnd(EndCause.EXITED, 0, None, 5)


@pytest.mark.parametrize(
    ("end", "filled", "reason", "exit_code"),
    [
        (EXITED, False, None, 0),
        (replace(EXITED, exit_code=3), False, FailureReason.EXIT_CODE, 3),
        (replace(EXITED, exit_code=None, signal=11), False, FailureReason.SIGNAL, None),
        (replace(EXITED, exit_code=None, signal=24), False, FailureReason.CPU_LIMIT, None),
        (replace(EXITED, exit_code=None, signal=25), False, FailureReason.DISK_LIMIT, None),
        (replace(EXITED, exit_code=152, cpu_seconds=3.0), False, FailureReason.CPU_LIMIT, 152),
        (replace(EXITED, exit_code=152, cpu_seconds=0.1), False, FailureReason.EXIT_CODE, 152),
        (replace(EXITED, exit_code=153), True, FailureReason.DISK_LIMIT, 153),
        (replace(EXITED, exit_code=153), False, FailureReason.EXIT_CODE, 153),
        (replace(EXITED, cause=EndCause.TIMED_OUT), False, FailureReason.TIMEOUT, None),
        (replace(EXITED, cause=EndCause.CANCELLED, signal=15), False, FailureReason.CANCELLED, None),
        (replace(EXITED, cause=EndCause.LOST), False, FailureReason.WORKER_LOST, None),
        (replace(EXITED, cause=EndCause.MEMORY_LIMIT), False, FailureReason.MEMORY_LIMIT, None),
        (replace(EXITED, cause=EndCause.PROCESS_LIMIT), False, FailureReason.PROCESS_LIMIT, None),
        (replace(EXITED, cause=EndCause.CPU_LIMIT), False, FailureReason.CPU_LIMIT, None),
        (replace(EXITED, cause=EndCause.DISK_LIMIT), False, FailureReason.DISK_LIMIT, None),
    ],
)
def test_every_end_has_its_reason(end, filled, reason, exit_code):
    """Who stopped the command comes before what it said; an exit code is only its own."""
    report = report_of(plan_for(limits=Limits(cpu_seconds=3)), end, filled_a_file=filled)
    assert (report.failure_reason, report.exit_code) == (reason, exit_code)
    assert (report.sandbox, report.backend) == (BASIC, "linux-spawner")
