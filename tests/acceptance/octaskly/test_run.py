"""`octaskly run`: a command on the cluster as if it ran here."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from octaskly.command_line import waiting
from tests.support.programs import new_mark, sleepers
from tests.support.wait import wait_until

BINARY = bytes(range(256)) * 1000


def test_stdout_stderr_and_exit_code_come_through(shell) -> None:
    """Both streams are themselves, and the code is the command's."""
    done = shell.run("run", "--", "sh", "-c", "echo out; echo 'a  b' >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"a  b\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["true"], 0, b""),
        (["kill -9 $$"], 137, b""),
        (["--timeout", "1", "sleep 100"], 124, b"--timeout"),
        (["-o", "never", "true"], 1, b"never"),
        (["-i", "no-such-file", "true"], 1, b"no such file"),
        (["no-such-program-anywhere"], 127, b"not found"),
    ],
)
def test_each_end_has_the_code_of_a_shell(shell, arguments, code, words) -> None:
    """A signal is 128 and its number, a time-out 124, what has no code of its own is 1 and a sentence."""
    done = shell.run("run", *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert b"Traceback" not in done.stderr


def test_output_is_exact(shell) -> None:
    """Every byte comes through a pipe, on both streams at once, in both directions."""
    shell.write("data.bin", BINARY)
    done = shell.run("run", "-i", "data.bin", "cat data.bin & cat data.bin >&2; wait")
    assert (done.returncode, done.stdout == BINARY, done.stderr == BINARY) == (0, True, True)


def test_output_comes_while_the_command_runs(shell) -> None:
    """The first line is here long before the end."""
    mark = new_mark()
    with shell.start("run", f"echo first; sleep {mark}") as process:
        assert process.stdout.readline() == b"first\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_files_go_and_come_home(shell) -> None:
    """Inputs keep their way from here, outputs come with their folders, also elsewhere."""
    shell.write("in/a.txt", b"hello")
    shell.write("in/deep/b.txt", b"world")
    command = "mkdir -p out/x; cat in/a.txt in/deep/b.txt > out/x/both.txt"
    assert shell.run("run", "-i", "in", "-o", "out/**/*.txt", "--output-dir", "results", command).returncode == 0
    assert (shell.here / "results/out/x/both.txt").read_bytes() == b"helloworld"


def test_a_link_here_is_not_written_through(shell, tmp_path) -> None:
    """An output does not leave the folder by a link that lies in it."""
    (tmp_path / "outside").mkdir()
    (shell.here / "out").symlink_to(tmp_path / "outside")
    done = shell.run("run", "-o", "out/x", "mkdir out; echo > out/x")
    assert (done.returncode, b"link" in done.stderr) == (1, True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_an_input_is_uploaded_once(shell, shared_cluster) -> None:
    """A second run with the same content sends it not again."""
    shell.write("once.bin", b"sent once " * 1000)
    for _ in range(2):
        assert shell.says("run", "-i", "once.bin", "wc -c < once.bin").strip() == "10000"
    rows = shared_cluster.rows("SELECT count(*) FROM files JOIN blobs ON sha256 = blob_id WHERE size_bytes = 10000")
    assert rows == [(1,)]


def test_ctrl_c_cancels_and_kills(shell) -> None:
    """The first Ctrl-C ends the command on the worker, says so, and exits with 130."""
    mark = new_mark()
    with shell.start("run", f"sleep {mark}") as process:
        wait_until(lambda: sleepers(mark), "the command runs")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130
    assert b"Cancelling" in told
    wait_until(lambda: not sleepers(mark), "the command is gone")


def test_a_second_ctrl_c_leaves_at_once(shell, shared_cluster) -> None:
    """Who does not want to wait for the end need not."""
    mark = new_mark()
    with shell.start("run", f"trap '' TERM; sleep {mark}; sleep {mark}") as process:
        wait_until(lambda: sleepers(mark), "the command runs")
        process.send_signal(signal.SIGINT)
        assert b"Cancelling" in process.stderr.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert time.monotonic() - began < 2


def test_a_reader_that_leaves_ends_the_command(shell) -> None:
    """As in a local pipe: `octaskly run yes | head -1` ends, quietly, and so does `yes`."""
    mark = new_mark()
    with shell.start("run", f"while echo line; do sleep 0.05; done; sleep {mark}") as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""


def test_detached_it_only_submits(shell) -> None:
    """The id is what is printed; the rest is fetched later."""
    task_id = shell.says("run", "-d", "echo later").strip()
    assert shell.says("wait", task_id) == f"{task_id}\tcompleted\n"
    assert shell.says("logs", "-f", task_id[-8:]) == "later\n"


def test_as_json_it_prints_the_task_when_it_has_ended(shell) -> None:
    """Nothing of the streams beside it; the files that came home stand there with their places, and the code stays."""
    done = shell.run(
        "run", "--json", "-o", "*.txt", "--output-dir", "here", "echo out; echo e >&2; echo x > a.txt; exit 3"
    )
    assert (done.returncode, done.stderr) == (3, b"")
    task = json.loads(done.stdout)
    assert (task["status"], task["exit_code"], task["stdout"], task["stderr"]) == ("failed", 3, "out\n", "e\n")
    assert [(file["name"], file["size"], file["path"]) for file in task["output_files"]] == [("a.txt", 2, "here/a.txt")]
    assert (shell.here / "here/a.txt").read_bytes() == b"x\n"
    waiting = json.loads(shell.says("run", "--json", "-d", "true"))
    assert shell.says("wait", waiting["id"]).split() == [waiting["id"], "completed"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "octaskly: Warning: No worker can run this as it is. Closest is w1: needs 9765.6 GB of memory, has "),
        (["--json"], "octaskly: Nothing runs yet: w1: needs 9765.6 GB of memory, has "),
    ],
)
def test_why_nothing_runs_is_told_once(shell, monkeypatch, flags, words) -> None:
    """At once as a warning, or where that is in the JSON, a little later: which worker lacks what, and where to look."""
    monkeypatch.setattr(waiting, "QUIET_WAIT_S", 0.1)
    told = shell.run_until_told("run", *flags, "--name", new_mark(), "--memory", "10000000", "true")
    assert told.pop() == "octaskly: The task was cancelled"
    (line,) = told
    assert line.startswith(words)
    assert "Look: octaskly why 0" in line


def test_a_terminal_gets_colours_and_no_commands(shell) -> None:
    """On a terminal escape sequences other than colours are dropped, unless --raw lets them through."""
    command = r"printf '\033]0;title\007\033[31mred\033[0m\033[2J'"
    cleaned, raw = (on_a_terminal(shell, "run", *flags, command) for flags in ([], ["--raw"]))
    assert b"\x1b[31mred\x1b[0m" in cleaned
    assert b"title" not in cleaned
    assert b"\x1b]0;title\x07" in raw


def test_why_it_waits_is_told_on_a_terminal(shell) -> None:
    """A task that no worker can run says so after a second, on the line that goes away."""
    shown = on_a_terminal(shell, "run", "--memory", "10000000", "true", until=b"runs yet: w1: needs 9765.6 GB")
    assert b"\x1b[2K" in shown


def on_a_terminal(shell, *arguments: str, until: bytes = b"") -> bytes:
    """Run a command on a terminal of its own and return what it shows; stop it once that is there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "octaskly", *arguments],
        cwd=shell.here,
        env={**shell.environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := read_terminal(ours):
            shown += piece
            if until and until in shown:
                process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        os.close(ours)
        process.kill()
        process.wait()
    assert not until or until in shown, shown
    return shown


def read_terminal(descriptor: int) -> bytes:
    """Return what is shown next, nothing at the end."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""  # Linux says so when the last program has left.
