"""Lists, waits, searches and streams, against a scripted server."""

from __future__ import annotations

import hashlib

import pytest

from octaskly import errors
from octaskly.answers import Output
from octaskly.effects import Answer, NoAnswer
from octaskly.flows import contents, pages, tasks
from tests.unit.octaskly.flow_script import Played, answer, signed_in

PARTIAL = Answer(206, {}, b"")
OPENED = Answer(200, {}, b"")


def task(task_id: str, status: str = "completed") -> dict[str, str]:
    """Return a task as REST shows it."""
    return {"id": task_id, "command": "x", "status": status}


def page(*rows: dict[str, str], following: str | None = None) -> Answer:
    """Return a page of a list."""
    return answer(body={"next": following, "previous": None, "results": list(rows)})


# Lists


def test_a_list_goes_on_over_its_pages() -> None:
    """The next page is asked for by its cursor, at our own address whatever host the link names."""
    link = "http://elsewhere:1/api/v1/tasks?cursor=abc&limit=500"
    played = Played(tasks.listed(signed_in()), page(task("1"), following=link), page(task("2")))
    assert [found.id for found in played.items] == ["1", "2"]
    assert played.requests[1].path == "/api/v1/tasks"
    assert played.requests[1].query == {"cursor": "abc", "limit": "500"}


def test_a_limit_ends_a_list() -> None:
    """No more is asked for than is wanted."""
    played = Played(tasks.listed(signed_in(), limit=1), page(task("1"), task("2"), following="http://x/?cursor=a"))
    assert ([found.id for found in played.items], played.requests[0].query["limit"]) == (["1"], "1")


def test_filters_that_are_not_given_are_not_sent() -> None:
    """None is no filter."""
    played = Played(tasks.listed(signed_in(), status="failed", name=None), page())
    assert played.requests[0].query == {"limit": str(pages.PAGE), "status": "failed"}


# Waiting


def test_each_task_is_told_once_when_it_has_ended() -> None:
    """What has ended is not asked for again."""
    played = Played(
        tasks.wait_each(signed_in(), ["1", "2"], None, clock=lambda: 0.0),
        answer(body={"tasks": [task("2")]}),
        answer(body={"tasks": []}),
        answer(body={"tasks": [task("1", "failed")]}),
    )
    assert [(found.id, found.ok) for found in played.items] == [("2", True), ("1", False)]
    assert b'"ids":["1"]' in played.requests[1].body


def test_a_wait_has_an_end() -> None:
    """Tasks that end meanwhile do not put it off; the error says how many are missing."""
    times = iter([100.0, 101.0, 150.0, 155.0, 161.0])
    flow = tasks.wait_each(signed_in(), ["1", "2"], 60, clock=lambda: next(times))
    with pytest.raises(errors.WaitedTooLong, match="1 of 2 tasks have not ended in 60 s"):
        Played(flow, answer(body={"tasks": [task("1")]}), answer(body={"tasks": []}))


def test_an_older_server_is_polled() -> None:
    """Where there is no route to wait, each task is looked at."""
    played = Played(
        tasks.wait_some(signed_in(), ["1"]), answer(405), answer(body=task("1", "running")), answer(body=task("1"))
    )
    assert [found.status for found in played.value] == ["completed"]
    assert len(played.pauses) == 1


# Steps for many


def test_many_are_cancelled_in_few_requests() -> None:
    """Five hundred with each, and what each answers is put together."""
    ids = [str(number) for number in range(700)]
    refused = {"id": "699", "reason": "the task is failed already"}
    played = Played(
        tasks.cancel_many(signed_in(), ids),
        answer(body={"cancelled": [task(task_id, "cancelled") for task_id in ids[:500]], "not_possible": []}),
        answer(body={"cancelled": [task(task_id, "cancelled") for task_id in ids[500:699]], "not_possible": [refused]}),
    )
    assert played.asked == ["POST /api/v1/tasks/cancel"] * 2
    assert [found.id for found in played.value.tasks] == ids[:699]
    assert [(entry.id, entry.reason) for entry in played.value.not_possible] == [("699", "the task is failed already")]


def test_many_are_retried_in_one_request() -> None:
    """The same way."""
    body = {"retried": [task("1", "queued")], "not_possible": []}
    played = Played(tasks.retry_many(signed_in(), ["1"]), answer(body=body))
    assert (played.asked, [found.id for found in played.value.tasks]) == (["POST /api/v1/tasks/retry"], ["1"])


# Searching

IDS = ["01a219b1-1e3c-7213-9bf4-a41016f20e3b", "01a219b1-1ceb-7667-816a-b4f64bcb2398"]


def test_a_whole_id_is_not_searched() -> None:
    """One request finds it."""
    assert Played(tasks.find(signed_in(), IDS[0].upper()), answer(body=task(IDS[0]))).value.id == IDS[0]


def test_a_beginning_is_looked_up_by_its_time() -> None:
    """However old the task is: an id begins with its time."""
    played = Played(tasks.find(signed_in(), "01a219b1-1e"), page(task(IDS[0])))
    assert played.value.id == IDS[0]
    assert played.requests[0].query["created_after"] == "2026-11-26T21:09:25.680000Z"
    assert played.requests[0].query["created_before"] == "2026-11-26T21:09:29.935000Z"


def test_an_end_is_looked_up_among_the_latest() -> None:
    """The last digits tell tasks of one moment apart."""
    assert Played(tasks.find(signed_in(), "2398"), page(*map(task, IDS))).value.id == IDS[1]


def test_what_fits_several_is_not_guessed() -> None:
    """All that fit are named."""
    with pytest.raises(errors.Ambiguous, match=IDS[1]):
        Played(tasks.find(signed_in(), "01a219b1-1"), page(*map(task, IDS)))


@pytest.mark.parametrize(("text", "script"), [("zz", []), ("", []), ("ffffffff", [page(), page()])])
def test_what_fits_none_is_told(text, script) -> None:
    """Nonsense is not even asked for."""
    with pytest.raises(errors.NotThere):
        Played(tasks.find(signed_in(), text), *script)


# Streams


def test_a_broken_download_goes_on_by_range() -> None:
    """Only the rest is sent again."""
    digest = hashlib.sha256(b"abcde").hexdigest()
    output = Output(name="a b.txt", size=5, sha256=digest, attempt=2)
    script = [OPENED, b"abc", NoAnswer("reset"), PARTIAL, b"de", b""]
    played = Played(contents.output_pieces(signed_in(), "1", output), *script)
    assert b"".join(played.items) == b"abcde"
    assert played.requests[1].headers["Range"] == "bytes=3-"
    assert played.requests[0].path == "/api/v1/tasks/1/outputs/a%20b.txt"


def test_a_damaged_download_is_noticed() -> None:
    """A file is what the list promised, or an error."""
    output = Output(name="a", size=3, sha256="0" * 64)
    with pytest.raises(errors.BadAnswer, match="damaged"):
        Played(contents.output_pieces(signed_in(), "1", output), OPENED, b"abc", b"")


def test_a_download_that_stopped_at_its_end_is_whole() -> None:
    """A range behind the last byte means that nothing is missing."""
    script = [OPENED, b"abc", NoAnswer("reset"), answer(416)]
    assert Played(contents.stream(signed_in(), "1", "stdout"), *script).items == [b"abc"]


@pytest.mark.parametrize(
    ("text", "is_cut", "is_asked"), [("plain ä", False, False), ("\ufffd", False, True), ("abc", True, True)]
)
def test_output_is_exact(text, is_cut, is_asked) -> None:
    """The task's text is the bytes unless something was replaced or left out."""
    found = tasks.Task(id="1", command="x", status="completed", stdout=text, stdout_truncated=is_cut)
    played = Played(
        contents.exact_stream(signed_in(), found, "stdout"), *([Answer(200, {}, b"raw")] if is_asked else [])
    )
    assert played.value == (b"raw" if is_asked else text.encode())


# Uploads


def test_a_content_that_is_there_is_not_sent() -> None:
    """The digest is asked for, and that was all."""
    assert Played(contents.upload(signed_in(), b"abc", "d" * 64, 3), answer(200)).value is False


def test_a_content_that_is_missing_is_sent_under_its_digest() -> None:
    """The server checks it against its name."""
    name = f"sha256:{'d' * 64}"
    stored = {"name": name, "size": 3, "sha256": "d" * 64}
    played = Played(contents.upload(signed_in(), b"abc", "d" * 64, 3), answer(404), answer(201, stored))
    assert played.asked == [f"HEAD /api/v1/files/{name}", f"PUT /api/v1/files/{name}"]
    assert (played.value, played.requests[1].body) == (True, b"abc")
