"""What clients may submit: every field's bad values are named, and good ones come through."""

from __future__ import annotations

import json

import msgspec
import pytest

from tasks_app.submission import MAX_TASKS, InvalidSubmission, read_submission

BAD = [
    ({"command": ""}, "command"),
    ({}, "command"),
    ({"command": None}, "command"),
    ({"command": 5}, "command"),
    ({"command": "a\0b"}, "command"),
    ({"command": "x" * 65_537}, "command"),
    ({"command": "é" * 32_769}, "command"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": 86_401}, "timeout"),
    ({"timeout": "12"}, "timeout"),
    ({"timeout": True}, "timeout"),
    ({"timeout": 1.5}, "timeout"),
    ({"name": "x" * 256}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "a\u202eb"}, "name"),
    ({"env": []}, "env"),
    ({"env": {"1A": "x"}}, "env"),
    ({"env": {"A=B": "x"}}, "env"),
    ({"env": {"A": 1}}, "env"),
    ({"env": {"A": "x\0"}}, "env.A"),
    ({"env": {"OCTASKLY_X": "x"}}, "env.OCTASKLY_X"),
    ({"env": {"A": "x" * 65_536}}, "env"),
    ({"priority": 101}, "priority"),
    ({"priority": -101}, "priority"),
    ({"max_retries": 11}, "max_retries"),
    ({"max_retries": -1}, "max_retries"),
    ({"sandbox": "weak"}, "sandbox"),
    ({"network": "yes"}, "network"),
    ({"network": True, "sandbox": "very_strict"}, "network"),
    ({"limits": {"memory_mb": 0}}, "limits.memory_mb"),
    ({"limits": {"cpu_seconds": -1}}, "limits.cpu_seconds"),
    ({"limits": {"processes": "many"}}, "limits.processes"),
    ({"limits": {"open_files": 1}}, "limits.open_files"),
    ({"limits": {"disk_mb": 1.5}}, "limits.disk_mb"),
    ({"limits": {"memory_mb": (1 << 24) + 1}}, "limits.memory_mb"),
    ({"limits": {"memory_mb": True}}, "limits.memory_mb"),
    ({"limits": {"memory_mb": 10**30}}, "limits.memory_mb"),
    ({"limits": {"cpu_seconds": 86_400 * 366 + 1}}, "limits.cpu_seconds"),
    ({"limits": {"processes": (1 << 20) + 1}}, "limits.processes"),
    ({"limits": {"processes": 0}}, "limits.processes"),
    ({"limits": {"open_files": (1 << 20) + 1}}, "limits.open_files"),
    ({"limits": {"disk_mb": (1 << 24) + 1}}, "limits.disk_mb"),
    ({"limits": {"disk_mb": 0}}, "limits.disk_mb"),
    ({"limits": {"gpu": 1}}, "limits.gpu"),
    ({"limits": {"timeout_s": 1}}, "limits.timeout_s"),
    ({"limits": []}, "limits"),
    ({"inputs": "a"}, "inputs"),
    ({"inputs": [5]}, "inputs"),
    ({"inputs": ["../a"]}, "inputs"),
    ({"inputs": ["a=sha256:xyz"]}, "inputs"),
    ({"inputs": ["*.png"]}, "inputs"),
    ({"inputs": ["a", "A"]}, "inputs"),
    ({"outputs": ["/a"]}, "outputs"),
    ({"outputs": ["a\0"]}, "outputs"),
    ({"outputs": ["a", "a"]}, "outputs"),
    ({"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(("change", "field"), BAD, ids=[f"{field}-{number}" for number, (_, field) in enumerate(BAD)])
def test_bad_value_is_refused_and_its_field_named(change, field):
    """Alone and as the third of a list; nothing of either is taken."""
    task = change if "command" in change or not change else {"command": "true"} | change
    with pytest.raises(InvalidSubmission) as single:
        read_submission(json.dumps(task).encode())
    assert single.value.field.startswith(field)
    assert single.value.message
    good = {"command": "true"}
    with pytest.raises(InvalidSubmission) as listed:
        read_submission(json.dumps([good, good, task]).encode())
    assert listed.value.field.startswith(f"[2].{field}")


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"5", b'"x"', b"[]", b"[1]", b"\xff\xfe", b'{"command":"\xff"}'])
def test_bodies_that_are_no_tasks_are_refused(body):
    """None of these is a task or a list of tasks."""
    with pytest.raises(InvalidSubmission):
        read_submission(body)


def test_half_a_character_is_refused():
    """A lone surrogate cannot be given to a shell."""
    with pytest.raises(InvalidSubmission):
        read_submission(b'{"command": "echo \\ud800"}')


def test_list_longer_than_allowed_is_refused():
    """Ten thousand is the cap, and the error says so."""
    body = json.dumps([{"command": "true"}] * (MAX_TASKS + 1)).encode()
    with pytest.raises(InvalidSubmission, match="10000"):
        read_submission(body)


def test_more_inputs_than_one_transaction_should_store_are_refused():
    """The cap on all inputs of a request is said with the number that was asked for."""
    names = [f"f{number}" for number in range(500)]
    body = json.dumps([{"command": "true", "inputs": names}] * 201).encode()
    with pytest.raises(InvalidSubmission, match=r"100500 inputs .* 100000"):
        read_submission(body)


def test_deep_nesting_is_refused():
    """A bomb of brackets ends as a bad body."""
    with pytest.raises(InvalidSubmission):
        read_submission(b"[" * 100_000)


def test_whole_task_comes_through():
    """Every field of the contract is read."""
    task = {
        "command": "echo hi", "name": "greeting", "env": {"A": "b"}, "priority": -5, "timeout": 7, "max_retries": 2,
        "sandbox": "none", "network": True, "limits": {"memory_mb": 64}, "inputs": ["a"], "outputs": ["*.b"],
    }  # fmt: skip
    (spec,), is_list = read_submission(json.dumps(task).encode())
    assert (spec.command, spec.name, spec.env, spec.priority, spec.timeout) == (
        "echo hi",
        "greeting",
        {"A": "b"},
        -5,
        7,
    )
    assert (spec.max_retries, spec.sandbox, spec.network, spec.limits.memory_mb) == (2, "none", True, 64)
    assert (spec.inputs, spec.outputs) == (("a",), ("*.b",))
    assert not is_list


def test_limits_may_be_as_large_as_any_machine():
    """16 TiB and a year of processor time are asked for in earnest; null asks for nothing."""
    limits = {
        "memory_mb": 1 << 24, "cpu_seconds": 86_400 * 366, "processes": 1 << 20, "open_files": 8, "disk_mb": None,
    }  # fmt: skip
    (spec,), _ = read_submission(json.dumps({"command": "true", "limits": limits}).encode())
    assert msgspec.to_builtins(spec.limits) == {name: limits[name] for name in limits if limits[name]}


def test_defaults_are_the_contracts():
    """A command alone is a task."""
    (spec,), _ = read_submission(b'{"command": "true"}')
    assert (spec.timeout, spec.priority, spec.max_retries, spec.sandbox, spec.network) == (3600, 0, 0, None, False)
