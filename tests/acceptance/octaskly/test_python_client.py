"""The Python client and the executor, against a real cluster; and the examples of their page."""

from __future__ import annotations

import asyncio
import doctest
from collections.abc import Iterator
from concurrent import futures

import pytest

from octaskly import AsyncClient, Client, Executor
from octaskly.errors import NotFound, WaitedTooLong
from octaskly.flows import pages
from tests.support.cluster import ADMIN_PASSWORD
from tests.support.programs import ROOT, new_mark, sleepers
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def client(shared_cluster) -> Iterator[Client]:
    """A client that brought its password."""
    with Client(shared_cluster.url, username="admin", password=ADMIN_PASSWORD) as client:
        yield client


@pytest.fixture
def executor(shared_cluster) -> Iterator[Executor]:
    """An executor that did the same."""
    with Executor(shared_cluster.url, username="admin", password=ADMIN_PASSWORD) as executor:
        yield executor


def test_a_task_with_its_files(client, tmp_path) -> None:
    """Submit with inputs, wait, read the output, bring the files home."""
    path = tmp_path / "in.txt"
    path.write_text("hello")
    task = client.submit("tr a-z A-Z < in.txt | tee out.txt", inputs=[path], outputs=["*.txt"], name="shout")
    (ended,) = client.wait(task.id, timeout=60)
    assert (ended.ok, ended.exit_code, ended.stdout, ended.name) == (True, 0, "HELLO", "shout")
    names = [output.name for output in client.outputs(task.id)]
    assert "out.txt" in names
    assert client.download(task.id, "out.txt", tmp_path / "home").read_text() == "HELLO"


def test_output_streams(client) -> None:
    """Pieces come while the command runs, and end with it."""
    mark = new_mark()
    task = client.submit(f"echo one; sleep {mark}")
    pieces = client.stream(task.id)
    assert next(pieces) == b"one\n"
    wait_until(lambda: sleepers(mark), "it runs on")
    client.cancel(task.id)
    assert b"".join(pieces) == b""
    assert client.wait([task.id], 60)[0].status == "cancelled"


def test_lists_go_over_all_pages(client, monkeypatch) -> None:
    """However small the pages are."""
    monkeypatch.setattr(pages, "PAGE", 2)
    mark = new_mark()
    made = client.submit_many([{"command": "true", "name": mark} for _ in range(5)])
    assert [task.id for task in client.tasks(name=mark)] == [task.id for task in reversed(made)]
    client.wait(task.id for task in made)


def test_errors_have_types(client) -> None:
    """A program can tell them apart."""
    with pytest.raises(NotFound):
        client.task("0" * 36)
    task = client.submit("sleep 100", timeout=200)
    with pytest.raises(WaitedTooLong):
        client.wait(task.id, timeout=0.1)
    client.cancel(task.id)


def test_the_awaiting_client_does_the_same(shared_cluster, tmp_path) -> None:
    """Many at once on one loop; each ended task is told as it ends."""

    async def story() -> None:
        async with AsyncClient(shared_cluster.url, username="admin", password=ADMIN_PASSWORD) as client:
            submitted = [client.submit(f"printf {number} | tee f", outputs=["f"]) for number in range(5)]
            made = await asyncio.gather(*submitted)
            ended = {task.id: task async for task in client.as_ended(task.id for task in made)}
            assert sorted(task.stdout for task in ended.values()) == list("01234")
            assert b"".join([piece async for piece in client.stream(made[3].id)]) == b"3"
            assert (await client.download(made[4].id, "f", tmp_path)).read_text() == "4"
            assert [worker.name for worker in await client.workers()] == ["w1"]

    asyncio.run(story())


# The executor


def test_futures_have_outcomes(executor) -> None:
    """A failing command is an outcome, not an exception; output is exact."""
    good, bad = executor.submit(r"printf '\377'"), executor.submit("echo no >&2; exit 3")
    assert (good.result(60).stdout, good.result().ok) == (b"\xff", True)
    outcome = bad.result(60)
    assert (outcome.ok, outcome.exit_code, outcome.failure_reason, outcome.stderr) == (False, 3, "exit_code", b"no\n")


def test_map_keeps_the_order(executor) -> None:
    """Each value is one word to the shell."""
    values = ["a b", "it's", "$HOME", "4"]
    assert [outcome.stdout.decode() for outcome in executor.map("printf %s", values)] == values
    pairs = executor.map("printf %s%s {2} {1}", [1, 2], ["x", "y"])
    assert [outcome.stdout for outcome in pairs] == [b"x1", b"y2"]


def test_the_standard_waits_work(executor) -> None:
    """`wait` and `as_completed` of concurrent.futures see what ends first."""
    mark = new_mark()
    slow, fast = executor.submit(f"sleep {mark}"), executor.submit("echo fast")
    assert next(futures.as_completed([slow, fast], timeout=60)) is fast
    done, waiting = futures.wait([slow, fast], timeout=0.1)
    assert (done, waiting) == ({fast}, {slow})
    slow.cancel()
    assert futures.wait([slow, fast], timeout=5).not_done == set()


def test_cancelling_a_future_kills_its_command(executor) -> None:
    """Even while it runs."""
    mark = new_mark()
    future = executor.submit(f"sleep {mark}")
    wait_until(lambda: sleepers(mark), "it runs")
    assert future.cancel()
    assert future.cancelled()
    wait_until(lambda: not sleepers(mark), "it is gone")


def test_a_refused_submission_is_the_futures_exception(executor) -> None:
    """As anything that a worker thread raises."""
    future = executor.submit("true", outputs=["../x"])
    with pytest.raises(Exception, match="outputs"):
        future.result(60)


def test_shutdown(shared_cluster) -> None:
    """It waits for what was submitted, or cancels it; afterwards nothing is taken."""
    executor = Executor(shared_cluster.url, username="admin", password=ADMIN_PASSWORD)
    quick = executor.submit("echo done")
    executor.shutdown()
    assert quick.done()
    assert quick.result().stdout == b"done\n"
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit("true")
    executor = Executor(shared_cluster.url, username="admin", password=ADMIN_PASSWORD)
    slow = executor.submit("sleep 1000")
    executor.shutdown(cancel_futures=True)
    assert slow.cancelled()


def test_an_executor_without_a_login_says_so_at_once(tmp_path, monkeypatch) -> None:
    """It is not the first future that has to tell."""
    monkeypatch.setenv("OCTASKLY_URL", "ftp://x")
    with pytest.raises(Exception, match="no address"):
        Executor()


# The page


def test_the_pages_examples_are_true(home, tmp_path, shared_cluster, monkeypatch) -> None:
    """docs/python-client.md does on a real cluster what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("OCTASKLY_URL", shared_cluster.url)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(str(ROOT / "docs/python-client.md"), module_relative=False, optionflags=flags)
    assert result.attempted > 20
    assert result.failed == 0
