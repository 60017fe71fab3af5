"""The task's wish, else the owner's default, else ours; never above the owner's cap."""

from __future__ import annotations

import pytest

from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.sandbox.limits import EffectiveLimits, LimitSettings, effective_limits

NOTHING = Limits()
ALL = {"memory_mb": 7, "cpu_seconds": 8, "processes": 9, "open_files": 10, "disk_mb": 11}
IN_UNITS = EffectiveLimits(7 << 20, 8, 9, 10, 11 << 20, 64 << 20)


@pytest.mark.parametrize("level", list(SandboxLevel))
def test_where_nobody_says_anything_our_defaults_hold(level):
    """A gibibyte each and no processor limit; at very_strict fewer processes, and a disk that is memory."""
    is_very_strict = level is SandboxLevel.VERY_STRICT
    assert effective_limits(NOTHING, level, LimitSettings()) == EffectiveLimits(
        memory_bytes=1 << 30,
        cpu_seconds=None,
        processes=64 if is_very_strict else 256,
        open_files=1024,
        disk_bytes=(256 << 20) if is_very_strict else 1 << 30,
        output_bytes=64 << 20,
    )


@pytest.mark.parametrize("level", list(SandboxLevel))
def test_the_owners_default_holds_at_each_level(level):
    """It stands in for what the task leaves out."""
    assert effective_limits(NOTHING, level, LimitSettings(defaults=Limits(**ALL))) == IN_UNITS


def test_the_tasks_wish_wins_over_every_default():
    """Smaller or larger."""
    owner = LimitSettings(defaults=Limits(memory_mb=1, cpu_seconds=1, processes=999, open_files=999, disk_mb=999))
    assert effective_limits(Limits(**ALL), SandboxLevel.VERY_STRICT, owner) == IN_UNITS


@pytest.mark.parametrize("asked", [NOTHING, Limits(**dict.fromkeys(ALL, 1 << 20))], ids=["default", "asked"])
def test_nothing_passes_a_cap(asked):
    """Not our defaults, and not a wish that should not have come here. A cap on processor time is a limit by itself."""
    assert effective_limits(asked, SandboxLevel.BASIC, LimitSettings(caps=Limits(**ALL))) == IN_UNITS


def test_a_cap_above_everything_changes_nothing():
    """It is the most, not the default; only processor time has no other default."""
    caps = Limits(**dict.fromkeys(ALL, 1 << 20))
    limits = effective_limits(NOTHING, SandboxLevel.BASIC, LimitSettings(caps=caps))
    assert (limits.memory_bytes, limits.processes, limits.cpu_seconds) == (1 << 30, 256, 1 << 20)


def test_an_owner_may_keep_less_output():
    """The cap of what is kept passes through."""
    assert effective_limits(NOTHING, SandboxLevel.NONE, LimitSettings(output_bytes=1024)).output_bytes == 1024


def test_a_wish_of_zero_is_none():
    """The wire lets zero through; nothing could run under it."""
    limits = effective_limits(Limits(**dict.fromkeys(ALL, 0)), SandboxLevel.BASIC, LimitSettings())
    assert limits == effective_limits(NOTHING, SandboxLevel.BASIC, LimitSettings())
