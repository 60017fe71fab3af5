"""What a worker says about its own levels: nothing that is open may be left out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from octaskly_wire.vocabulary import SandboxLevel
from worker_node.sandbox.gaps import gaps_of
from worker_node.sandbox.policy import Backend, HostFacts

NONE, BASIC, STRICT, VERY_STRICT = SandboxLevel
BARE = HostFacts(landlock_abi=4)
"""An ordinary user's worker, on a kernel whose Landlock knows no scopes."""
RICH = HostFacts(has_memory_group=True, has_own_users=True, landlock_abi=7)
BACKENDS = {
    NONE: Backend.SPAWNER,
    BASIC: Backend.SPAWNER,
    STRICT: Backend.NAMESPACES,
    VERY_STRICT: Backend.NAMESPACES_AND_LANDLOCK,
}


def gaps(level: SandboxLevel, facts: HostFacts, **changes) -> list[str]:
    """Return the gaps of a level on Linux."""
    return gaps_of(level, BACKENDS[level], facts, **changes)


def subjects(level: SandboxLevel, facts: HostFacts, **changes) -> set[str]:
    """Return what the gaps are about: the word before the colon of each."""
    return {gap.partition(":")[0] for gap in gaps(level, facts, **changes)}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (NONE, {"files", "processes", "network", "lifetime", "environment", "limits"}),
        (BASIC, {"files", "processes", "network", "lifetime", "limits"}),
        (STRICT, {"network", "limits"}),
    ],
)
@pytest.mark.parametrize("facts", [BARE, RICH])
def test_each_level_names_what_is_open(level, facts, expected):
    """Whatever the host can do beyond, these belong to the level."""
    assert subjects(level, facts) == expected


def test_very_strict_leaves_only_limits_open_and_with_a_memory_group_nothing():
    """The strongest level on a host that can do all."""
    assert subjects(VERY_STRICT, BARE) == {"limits"}
    assert gaps(VERY_STRICT, RICH) == []


@pytest.mark.parametrize("level", list(SandboxLevel))
def test_a_host_that_can_do_more_leaves_less_open(level):
    """No fact adds a gap; a control group or users of their own take some away."""
    count = len(gaps(level, BARE))
    for fact in ({"has_memory_group": True}, {"has_own_users": True}, {"landlock_abi": 7}):
        assert len(gaps(level, replace(BARE, **fact))) <= count
    assert len(gaps(level, RICH)) < count


@pytest.mark.parametrize("level", list(SandboxLevel))
def test_polled_memory_is_named_exactly_where_no_group_holds_it(level):
    """The owner can see why a task may be over its limit for a moment."""
    assert any("memory is polled" in gap for gap in gaps(level, BARE))
    assert not any("memory is polled" in gap for gap in gaps(level, RICH))


def test_polled_processes_are_named_where_the_kernel_cannot_count_them():
    """Below strict it counts by user, which an ordinary worker's tasks share."""
    polled = [level for level in SandboxLevel if any("number of processes" in gap for gap in gaps(level, BARE))]
    assert polled == [NONE, BASIC]
    assert not any("number of processes" in gap for level in SandboxLevel for gap in gaps(level, RICH))


def test_an_owner_who_allows_no_network_has_no_gap_there():
    """At strict it is open only to whom it is given."""
    assert "network" not in subjects(STRICT, BARE, allows_network=False)


def test_below_strict_the_network_is_open_whatever_the_owner_says():
    """Nothing keeps a command there from using it."""
    for level in (NONE, BASIC):
        assert "network" in subjects(level, RICH, allows_network=False)


def test_abstract_sockets_are_a_gap_where_landlock_has_no_scopes():
    """A task with the network shares its name space of sockets."""
    assert any("abstract" in gap for gap in gaps(STRICT, BARE))
    assert not any("abstract" in gap for gap in gaps(STRICT, RICH))


def test_an_ordinary_worker_says_that_its_key_can_be_read():
    """The owner of such a worker must know; as root each slot is another user, who cannot."""
    for level in (NONE, BASIC):
        assert any("its own key" in gap for gap in gaps(level, BARE))
        assert not any("its own key" in gap for gap in gaps(level, RICH))


@pytest.mark.parametrize(("backend", "level"), [(Backend.POSIX, NONE), (Backend.POSIX, BASIC), (Backend.WINDOWS, NONE)])
def test_elsewhere_than_on_linux_limits_and_lifetimes_are_gaps(backend, level):
    """Where the kernel helps with nothing, nothing is said to be polled either."""
    found = gaps_of(level, backend, HostFacts())
    assert "limits: not kept on this system" in found
    assert any(gap.startswith("lifetime: a daemon") for gap in found)
    assert "polled" not in str(found)
