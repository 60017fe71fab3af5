"""`octaskly map`: one command for many values."""

from __future__ import annotations

import json
import signal

from octaskly import joblog, watch
from octaskly.command_line import mapping, waiting
from tests.support.programs import new_mark, processes_with, sleepers
from tests.support.wait import wait_until


def test_values_from_stdin_in_their_order(shell) -> None:
    """With -k output comes in the order of the values, whichever was quicker; odd characters are safe."""
    values = ["0.4 first", "it's; $HOME", "*", "last"]
    done = shell.run("map", "-k", "sleep 0.$((RANDOM % 3)) ; echo", stdin="\n".join(values).encode())
    assert (done.returncode, done.stdout.decode().splitlines()) == (0, values)


def test_each_output_is_whole(shell) -> None:
    """Lines of tasks that run side by side are not mixed, and stderr stays stderr."""
    done = shell.run("map", "for i in 1 2 3; do echo {}$i; echo {}e >&2; sleep 0.05; done", ":::", "a", "b", "c", "d")
    lines = done.stdout.decode().split()
    groups = [lines[start : start + 3] for start in range(0, 12, 3)]
    assert sorted(groups) == [[f"{name}{number}" for number in (1, 2, 3)] for name in "abcd"]
    assert sorted(set(done.stderr.split())) == [b"ae", b"be", b"ce", b"de"]


def test_the_exit_code_counts_failures(shell) -> None:
    """Two of three failed."""
    assert shell.run("map", "exit {}", ":::", "0", "3", "4").returncode == 2


def test_files_of_each_value(shell) -> None:
    """-i takes the value up, -o brings its result home."""
    for name in ("a b", "c"):
        shell.write(f"pics/{name}.txt", name.encode())
    shell.says("map", "-i", "{}", "-o", "{.}.up", "tr a-z A-Z < {} > {.}.up", ":::", "pics/a b.txt", "pics/c.txt")
    assert [(shell.here / f"pics/{name}.up").read_text() for name in ("a b", "c")] == ["A B", "C"]


def test_as_json_each_ended_task_is_a_line(shell) -> None:
    """Its number and values, the task, and the files that came home; a value without its file has an error instead."""
    shell.write("a.txt", b"x")
    done = shell.run(
        "map", "--json", "-k", "-i", "{}", "-o", "{.}.up", "tr a-z A-Z < {} | tee {.}.up", ":::", "a.txt", "b"
    )
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["seq"], first["values"], first["status"], first["stdout"]) == (1, ["a.txt"], "completed", "X")
    assert [file["path"] for file in first["output_files"]] == ["a.up"]
    assert (second["seq"], second["error"]) == (2, "Cannot read b: there is no such file")
    assert done.returncode == 1


def test_why_nothing_runs_is_told_once(shell, monkeypatch) -> None:
    """For all values in one line, as soon as they are submitted."""
    monkeypatch.setattr(waiting, "QUIET_WAIT_S", 0.1)
    name = new_mark()
    first, *rest = shell.run_until_told("map", "--name", name, "--memory", "10000000", "echo", ":::", "1", "2")
    assert first.startswith("octaskly: Warning: No worker can run this as it is. Closest is w1: needs 9765.6 GB")
    assert "Look: octaskly why 0" in first
    assert sorted(rest) == ["octaskly: 1: The task was cancelled", "octaskly: 2: The task was cancelled"]


def test_a_value_without_its_file_fails_alone(shell) -> None:
    """The others run."""
    shell.write("there", b"x")
    done = shell.run("map", "-i", "{}", "cat", ":::", "there", "missing")
    assert (done.returncode, done.stdout) == (1, b"x")
    assert b"2: Cannot read missing: there is no such file" in done.stderr


def test_resume_runs_what_is_missing(shell) -> None:
    """What stands in the joblog is left out, failures are done again when asked; another command is refused."""
    arguments = ["--joblog", "log", "-k", "echo {}; exit {}", ":::", "0", "1", "0"]
    assert shell.run("map", *arguments[:-1]).stdout == b"0\n1\n"
    assert shell.run("map", "--resume", *arguments).stdout == b"0\n"
    assert shell.run("map", "--resume-failed", *arguments).stdout == b"1\n"
    log = joblog.read(shell.here / "log")
    # The first two ran at the same time.
    assert sorted((line.number, line.host, line.exit_code) for line in log.values()) == [
        (1, "w1", 0),
        (2, "w1", 1),
        (3, "w1", 0),
    ]
    refused = shell.run("map", "--resume", "--joblog", "log", "echo", ":::", "0")
    assert (refused.returncode, b"was another" in refused.stderr) == (1, True)


def test_an_error_halts_when_asked(shell) -> None:
    """The first failure cancels the rest, which does not count as failed."""
    mark = new_mark()
    done = shell.run(
        "map", "--halt-on-error", "-j", "3", f"test {{}} = bad && exit 5; sleep {mark}", ":::", *"ab", "bad", *"cd"
    )
    assert done.returncode == 1
    assert b"3 failed" in done.stderr
    wait_until(lambda: not processes_with(mark), "the others are gone")


def test_ctrl_c_cancels_all_that_has_not_ended(shell, shared_cluster) -> None:
    """Nothing of it runs or waits afterwards, and the joblog has only what was done."""
    mark = new_mark()
    values = "".join(f"{number}\n" for number in range(40)).encode()
    shell.write("values", values)
    arguments = ("map", "--name", mark, "--joblog", "log", "-a", "values", f"test {{}} = 0 || sleep {mark}")
    with shell.start(*arguments) as process:
        wait_until(lambda: len(sleepers(mark)) >= 3 and joblog.read(shell.here / "log"), "one is done and some run")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 130
    assert b"Cancelling 39 tasks" in told
    wait_until(lambda: not sleepers(mark), "none runs")
    states = dict(shared_cluster.rows("SELECT status, count(*) FROM tasks WHERE name = ? GROUP BY 1", mark))
    assert states == {"completed": 1, "cancelled": 39}
    assert list(joblog.read(shell.here / "log")) == [1]


def test_values_that_come_slowly_run_as_they_come(shell) -> None:
    """A pipe that stays open holds nothing up."""
    with shell.start("map", "echo got", stdin=-1) as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got one\n"
        process.stdin.write(b"two\n")
        process.stdin.close()
        process.stdin = None
        assert process.stdout.readline() == b"got two\n"
        assert process.wait(30) == 0


def test_a_reader_that_leaves_ends_the_map(shell, shared_cluster) -> None:
    """Quietly, as in a local pipe, and nothing goes on without it."""
    mark = new_mark()
    values = [str(number) for number in range(9)]
    with shell.start(
        "map", "--name", mark, f"test {{}} = 8 && sleep {mark}; sleep 0.{{}}; echo", ":::", *values
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""
    wait_until(lambda: not processes_with(mark), "none runs")
    waiting = "SELECT count(*) FROM tasks WHERE name = ? AND status = 'queued'"
    assert shared_cluster.rows(waiting, mark) == [(0,)]


def test_results_are_kept_in_files(shell) -> None:
    """In the folders that GNU Parallel makes."""
    shell.says("map", "--results", "kept", "echo {1}-{2}", ":::", "a/b", ":::", "c")
    assert (shell.here / "kept/1/a\\_b/2/c/stdout").read_text() == "a/b-c\n"


def test_many_values(shell, monkeypatch) -> None:
    """More than one list, more than one wait: all come back, in order."""
    monkeypatch.setattr(mapping, "MAX_LIST", 20)
    monkeypatch.setattr(watch, "MAX_WAITED_FOR", 15)
    values = [str(number) for number in range(50)]
    shell.write("values", "\n".join(values).encode())
    assert shell.says("map", "-k", "-a", "values", "echo").split() == values
