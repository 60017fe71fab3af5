"""What each sandbox level stops, attack by attack, against a table that says it beforehand, both ways.

An escape that the table does not know is a hole. An attack that is stopped where the table lets it escape has lost
its teeth, or a level became stronger than we say: either way the table is wrong. The columns `plain` prove that
the attacks work at all; `bwrap` runs them in a sandbox that others made, and how ours differs from it is listed here.

The table expects a machine on which every attack can work. Where one names a need and fails without any sandbox,
this machine lacks the need: it is then expected nowhere to escape, and still expected to be stopped.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.attacks import ATTACKS
from tests.support.measured_once import measured_once
from tests.support.other_user import NoOtherUser, as_ordinary_user

if sys.platform == "linux":
    from tests.support import attack_ways
    from worker_node.sandbox import kernel
else:
    pytest.skip("the sandbox levels are those of Linux", allow_module_level=True)

TABLE = Path(__file__).parents[1] / "golden" / "attack_matrix.txt"
ESCAPED, STOPPED, DOES_NOT_APPLY = "E", ".", "-"
LANDLOCK_WITH_SCOPES = 6

STRONGER_THAN_BWRAP = {
    "learn_host_name": "bwrap makes a name that can be set, and leaves it what it was",
    "take_over_keeper": "bwrap's first process hides nothing; all that it has is the sandbox",
    "open_vsock": "only IP and UNIX sockets at strict",
    "open_netlink": "only IP and UNIX sockets at strict",
    "open_crypto_socket": "only IP and UNIX sockets at strict",
    "reach_bpf": "filter",
    "reach_perf_events": "filter",
    "use_keyring": "filter",
    "use_io_uring": "filter",
    "use_userfaultfd": "filter",
    "call_as_32_bit": "a call that the filter cannot judge is death",
    "call_as_x32": "a call that the filter cannot judge is death",
    "type_into_terminal": "filter; bwrap only takes the terminal away from which it was started",
}
"""Attacks that strict stops and bwrap does not. The other way there is none."""


def read_table() -> dict[str, dict[str, str]]:
    """Return the table by columns: way and user, then attacks, then cells."""
    lines = [line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    (_, *ways), *rows = lines
    columns: dict[str, dict[str, str]] = {}
    for name, *pairs in rows:
        for way, pair in zip(ways, pairs, strict=True):
            users = ("root", "user") if len(pair) == len("EE") else ("user",)
            for user, cell in zip(users, pair, strict=True):
                columns.setdefault(f"{way}/{user}", {})[name] = cell
    return columns


EXPECTED = read_table()


@functools.cache
def _measure(column: str) -> dict[str, Any]:
    way, _, user = column.partition("/")
    if user == "root":
        return attack_ways.measure(way) if os.geteuid() == 0 else {"unavailable": "needs root"}
    try:
        return as_ordinary_user("tests.support.attack_ways:measure", way)
    except NoOtherUser as reason:
        return {"unavailable": str(reason)}


def measured(column: str) -> dict[str, str]:
    """Return the verdicts of one column, measured once; skip with the reason where this machine does not let us."""
    found = _measure(column)
    if reason := found.get("unproven"):
        lack = what_machine_lacks(column)
        # A level that could be and is not is broken: skipped, the worst hole would be the quietest.
        assert lack, f"this machine has what the level needs, but the worker's own proof fails: {reason}"
        pytest.skip(f"{lack}: {reason}")
    if reason := found.get("unavailable"):
        pytest.skip(reason)
    return found["verdicts"]


def what_machine_lacks(column: str) -> str:
    """Return why a level cannot be had here, empty when it can."""
    level, _, user = column.partition("/")
    # Entering one takes the same right as making one.
    if user == "root" and not escapes("plain/root", "enter_host_namespace"):
        return "a root worker needs CAP_SYS_ADMIN for mount namespaces"
    if level in {"none", "basic"}:
        return ""
    if not (escapes("plain/user", "mount_in_user_namespace") or escapes("plain/root", "mount_in_user_namespace")):
        return "ordinary users cannot make user namespaces here"
    return "this kernel has no Landlock" if level == "very_strict" and not kernel.landlock_abi() else ""


def escapes(column: str, name: str) -> bool:
    """Return whether an attack was measured to escape."""
    return _measure(column).get("verdicts", {}).get(name) == attack_ways.ESCAPED


def cell_of(verdict: str) -> str:
    """Return a verdict as the table writes it."""
    if verdict == attack_ways.ESCAPED:
        return ESCAPED
    return DOES_NOT_APPLY if verdict.startswith("n/a") else STOPPED


def lacking_here() -> set[str]:
    """Return the attacks whose needs this machine does not have: they fail even with nothing in their way."""
    names = {attack.name for attack in ATTACKS if attack.needs}
    lacking = set()
    for column in ("plain/root", "plain/user"):
        verdicts = _measure(column).get("verdicts", {})
        escapes = {name for name in names & set(verdicts) if EXPECTED[column][name] == ESCAPED}
        lacking |= {name for name in escapes if cell_of(verdicts[name]) != ESCAPED}
    return lacking


def expected_here(column: str) -> dict[str, str]:
    """Return a column as it is to be on this kernel."""
    cells = dict(EXPECTED[column])
    if column.startswith("strict+network") and kernel.landlock_abi() < LANDLOCK_WITH_SCOPES:
        # A gap that the worker declares: the network is the host's, and nothing else divides these names.
        cells["connect_abstract_socket"] = ESCAPED
    return cells


def differences(column: str) -> list[str]:
    """Return where a column is not as the table says, one line each."""
    verdicts, expected, lacking = measured(column), expected_here(column), lacking_here()
    return [
        f"{attack.name:32}{expected[attack.name]} expected, {cell_of(verdict)} found: {verdict} | {attack.tries}"
        for attack in ATTACKS
        if cell_of(verdict := verdicts[attack.name]) != expected[attack.name]
        and not (attack.name in lacking and expected[attack.name] == ESCAPED)
    ]


@pytest.mark.parametrize("column", [measured_once(column, f"attacks at {column}", column) for column in EXPECTED])
def test_attacks_end_as_the_table_says(column):
    """Every attack escapes where the table says so, and nowhere else."""
    assert not (found := differences(column)), "\n".join(["", *found])


def test_the_table_has_every_attack_once():
    """An attack that nobody wrote down is judged by nobody."""
    assert sorted(EXPECTED["plain/user"]) == sorted(attack.name for attack in ATTACKS)


def test_every_attack_escapes_when_nothing_stops_it():
    """Being stopped proves nothing of an attack that could never work."""
    for attack in ATTACKS:
        assert ESCAPED in (EXPECTED["plain/root"][attack.name], EXPECTED["plain/user"][attack.name]), attack.name


def test_strict_and_very_strict_stop_everything():
    """The promise of the two levels has no exceptions: only the network opens, and only when it is asked for."""
    opened = {"connect_tcp_loopback", "send_udp_loopback"}
    for column, cells in EXPECTED.items():
        if column.startswith(("strict", "very_strict")):
            escapes = {name for name, cell in cells.items() if cell == ESCAPED}
            assert escapes == (opened if "+network" in column else set()), column


def test_strict_is_bwrap_and_a_filter():
    """Ours stops what bwrap stops, and beyond that what is listed with its reason."""
    ours, theirs = EXPECTED["strict/user"], EXPECTED["bwrap/user"]
    assert {name for name in ours if ours[name] != theirs[name]} == set(STRONGER_THAN_BWRAP)
    assert all(theirs[name] == ESCAPED for name in STRONGER_THAN_BWRAP)


def test_this_machine_is_told_what_it_cannot_show(capsys):
    """Attacks without their needs here are named, so that nobody takes them for proven."""
    measured("plain/user")
    with capsys.disabled():
        sys.stdout.write("".join(f"\n  [cannot be shown on this machine: {name}]" for name in sorted(lacking_here())))
