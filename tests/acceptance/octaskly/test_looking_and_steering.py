"""The commands that look at tasks, workers and files, and those that steer them."""

from __future__ import annotations

import json

import pytest

from tests.support.programs import new_mark, sleepers
from tests.support.wait import wait_until


@pytest.fixture
def mark() -> str:
    """A label of this test's tasks."""
    return new_mark()


def test_a_task_is_found_by_both_ends_of_its_id(shell) -> None:
    """The last digits, the first ones and the whole name it; a wrong one does not."""
    task_id = shell.says("submit", "--name", "mine", "true").strip()
    shell.says("wait", task_id)
    for text in (task_id, task_id[-10:], task_id[:28]):
        assert json.loads(shell.says("task", "--json", text))["id"] == task_id
    missing = shell.run("task", "0" * 36)
    assert (missing.returncode, b"There is no task" in missing.stderr) == (1, True)


def test_a_pipe_gets_plain_columns(shell, mark) -> None:
    """Tabs, no colours, no frames; what could steer a terminal is spelled out."""
    shell.says("run", "--name", mark, r"printf x # \033]0;title")
    shell.says("run", "--name", mark, "true #\x1b]0;x\x07")
    header, *rows = shell.says("tasks", "--name", mark).splitlines()
    assert header.split("\t") == ["ID", "STATUS", "NAME", "CREATED", "TIME", "COMMAND"]
    assert [row.split("\t")[1:3] for row in rows] == [["completed", mark]] * 2
    assert "\\x1b]0;x\\x07" in rows[0]


def test_json_is_one_document_a_line(shell, mark) -> None:
    """Nothing else is on stdout."""
    for _ in range(2):
        shell.says("submit", "--name", mark, "true")
    shell.says("wait", "--name", mark)
    found = [json.loads(line) for line in shell.says("tasks", "--json", "--name", mark).splitlines()]
    assert [task["status"] for task in found] == ["completed"] * 2
    assert {"workers", "tasks", "system", "database"} == set(json.loads(shell.says("stats", "--json")))


def test_many_are_submitted_from_a_file(shell, mark) -> None:
    """A JSON object a line; options of the command line are for those that do not say otherwise."""
    shell.write("tasks.jsonl", b'{"command": "exit 3"}\n\n{"command": "true", "name": "own"}\n')
    ids = shell.says("submit", "--name", mark, "--file", "tasks.jsonl").split()
    done = shell.run("wait", *ids)
    assert (done.returncode, sorted(line.split()[1] for line in done.stdout.splitlines())) == (
        1,
        [b"completed", b"failed"],
    )
    assert json.loads(shell.says("task", "--json", ids[0]))["name"] == mark
    assert json.loads(shell.says("task", "--json", ids[1]))["name"] == "own"


def test_a_wrong_line_of_the_file_is_named(shell) -> None:
    """And nothing is submitted before it."""
    shell.write("tasks.jsonl", b'{"command": "true"}\n{"command"\n')
    done = shell.run("submit", "--file", "tasks.jsonl")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"tasks.jsonl line 2" in done.stderr


def test_the_servers_refusal_names_the_field(shell) -> None:
    """As REST says it."""
    done = shell.run("submit", "-o", "../x", "true")
    assert (done.returncode, b"outputs" in done.stderr) == (1, True)


def test_cancel_by_name_and_retry(shell, mark) -> None:
    """What runs and what waits is cancelled, and can be queued again; what has ended says so."""
    ids = shell.says("submit", "--name", mark, f"sleep {mark}").split()
    ids += shell.says("submit", "--name", mark, "--memory", "10000000", "true").split()
    wait_until(lambda: sleepers(mark), "one runs")
    assert sorted(shell.says("cancel", "--name", mark).split()) == sorted(ids)
    assert shell.run("wait", "--name", mark).returncode == 1
    wait_until(lambda: not sleepers(mark), "none runs")
    again = shell.run("cancel", ids[0])
    assert (again.returncode, b"cancelled already" in again.stderr) == (1, True)
    assert shell.says("retry", ids[1]).split() == ids[1:]
    shell.says("cancel", ids[1])


def test_why_names_the_workers(shell) -> None:
    """A task that asks for too much is explained."""
    submitted = shell.run("submit", "--memory", "10000000", "true")
    task_id = submitted.stdout.decode().strip()
    assert b"octaskly: Warning: No worker can run this as it is. Closest is w1" in submitted.stderr
    explained = shell.says("why", task_id)
    assert "No worker can run this as it is. Closest is w1: needs 9765.6 GB of memory, has " in explained
    assert "w1\tneeds" in explained
    shell.says("cancel", task_id)


def test_wait_gives_up(shell) -> None:
    """With its own exit code."""
    task_id = shell.says("submit", "--memory", "10000000", "true").strip()
    done = shell.run("wait", "--timeout", "0.3", task_id)
    assert (done.returncode, b"have not ended" in done.stderr) == (124, True)
    shell.says("cancel", task_id)


def test_logs_show_each_stream(shell) -> None:
    """stdout, stderr or both, byte by byte in a pipe."""
    task_id = shell.says("submit", r"printf 'a\000\377'; printf b >&2").strip()
    shell.says("wait", task_id)
    assert shell.run("logs", task_id).stdout == b"a\0\xff"
    assert shell.run("logs", "--stderr", task_id).stdout == b"b"
    both = shell.run("logs", "--both", "-f", task_id)
    assert (both.stdout, both.stderr) == (b"a\0\xff", b"b")


def test_logs_of_a_running_task_show_what_came_until_now(shell, mark) -> None:
    """And return, unless they are to be followed."""
    task_id = shell.says("submit", f"echo early; sleep {mark}").strip()
    wait_until(lambda: sleepers(mark), "it runs")
    assert shell.says("logs", task_id) == "early\n"
    shell.says("cancel", task_id)


def test_logs_as_json(shell) -> None:
    """One document of an ended task; followed, a line for each piece, with no character torn."""
    task_id = shell.says("submit", "printf 'caf\\303\\251 \\377'; printf b >&2").strip()
    shell.says("wait", task_id)
    document = json.loads(shell.says("logs", "--json", "--both", task_id))
    assert document == {"id": task_id, "status": "completed", "stdout": "café \ufffd", "stderr": "b"}
    pieces = [json.loads(line) for line in shell.says("logs", "--json", "-f", task_id).splitlines()]
    assert {piece["stream"] for piece in pieces} == {"stdout"}
    assert "".join(piece["text"] for piece in pieces) == "café \ufffd"


def test_files_as_json(shell) -> None:
    """Each command of `files` tells what it did."""
    shell.write("in.csv", b"1,2\n")
    [stored] = [json.loads(line) for line in shell.says("files", "put", "in.csv", "--json").splitlines()]
    assert (stored["name"], stored["size"]) == ("in.csv", 4)
    got = json.loads(shell.says("files", "get", "in.csv", "-o", "out.csv", "--json"))
    assert got == {"name": "in.csv", "size": 4, "path": "out.csv"}
    assert json.loads(shell.says("files", "--json", "rm", "in.csv")) == {"name": "in.csv"}


def test_files_are_kept_on_the_server(shell) -> None:
    """Put, list, use, fetch and remove; a near miss is pointed out."""
    shell.write("data/table.csv", b"1,2\n")
    assert shell.says("files", "put", "data").startswith("data/table.csv\t4\tsha256:")
    assert "data/table.csv\t4 B" in shell.says("files")
    assert shell.says("run", "--stored-input", "data/table.csv", "cat data/table.csv") == "1,2\n"
    assert shell.run("files", "get", "data/table.csv", "-o", "-").stdout == b"1,2\n"
    shell.says("files", "get", "data/table.csv", "-o", "copy.csv")
    assert (shell.here / "copy.csv").read_bytes() == b"1,2\n"
    assert b"Did you mean data/table.csv" in shell.run("files", "get", "data/tabel.csv").stderr
    shell.says("files", "rm", "data/table.csv")
    assert shell.run("files", "rm", "data/table.csv").returncode == 1


def test_workers_are_steered_by_name(shell) -> None:
    """Drain and resume, and a near miss is pointed out."""
    assert shell.says("workers", "drain", "w1") == "w1\tdraining\n"
    assert shell.says("workers", "resume", "w1") == "w1\tconnected\n"
    assert json.loads(shell.says("workers", "show", "w1", "--json"))["name"] == "w1"
    missed = shell.run("workers", "drain", "w11")
    assert (missed.returncode, b"Did you mean w1" in missed.stderr) == (1, True)


def test_a_join_token_is_all_that_stdout_has(shell) -> None:
    """A script takes it from there; the whole line for the other machine is beside."""
    done = shell.run("join-token", "--ttl", "10m")
    assert done.stdout.startswith(b"octa1-")
    assert len(done.stdout.split()) == 1
    assert done.stdout.split()[0] in done.stderr
