"""Tasks: submit, look at, steer, wait for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import msgspec

from octaskly.answers import Attempt, NotPossible, Stepped, Task, Why
from octaskly.effects import Emit, Flow, Pause, Request
from octaskly.errors import Ambiguous, NotFound, NotThere, WaitedTooLong
from octaskly.flows import pages
from octaskly.flows.calls import call, get, post, read
from octaskly.session import Session

MAX_WAITED_FOR: Final = 500
MAX_STEPPED: Final = 500
LONGEST_WAIT_S: Final = 50.0
POLL_S: Final = 0.25
SEARCHED_BY_TAIL: Final = 2_500
FULL_ID_LENGTH: Final = 36
_TIME_DIGITS: Final = 12
_METHOD_NOT_ALLOWED: Final = 405
_CLOCK_SLACK: Final = timedelta(seconds=2)
"""Between the time in an id and the one in its row."""


class _Stepped(msgspec.Struct):
    not_possible: list[NotPossible]
    cancelled: list[Task] = []
    retried: list[Task] = []


class _Ended(msgspec.Struct):
    tasks: list[Task]


def submit_many(session: Session, specs: Sequence[Mapping[str, Any]]) -> Flow[list[Task]]:
    """Submit a list, all or nothing. The key makes a repeated request count once."""
    request = post("tasks", list(specs), **{"Idempotency-Key": secrets.token_urlsafe(18)})
    return read((yield from call(session, request)), list[Task])


def submit(session: Session, spec: Mapping[str, Any]) -> Flow[Task]:
    """Submit one task."""
    request = post("tasks", spec, **{"Idempotency-Key": secrets.token_urlsafe(18)})
    return read((yield from call(session, request)), Task)


def task(session: Session, task_id: str) -> Flow[Task]:
    """Return a task."""
    return read((yield from _of_task(session, get(_at(task_id)), task_id)), Task)


def why(session: Session, task_id: str) -> Flow[Why]:
    """Return why a task waits."""
    return read((yield from _of_task(session, get(_at(task_id, "why")), task_id)), Why)


def attempts(session: Session, task_id: str) -> Flow[list[Attempt]]:
    """Return a task's attempts, first to last."""
    return (yield from pages.rows(session, _at(task_id, "attempts"), Attempt))


def cancel(session: Session, task_id: str) -> Flow[Task]:
    """Cancel a task."""
    return read((yield from _of_task(session, post(_at(task_id, "cancel")), task_id)), Task)


def retry(session: Session, task_id: str) -> Flow[Task]:
    """Queue an ended task again."""
    return read((yield from _of_task(session, post(_at(task_id, "retry")), task_id)), Task)


def cancel_many(session: Session, task_ids: Sequence[str]) -> Flow[Stepped]:
    """Cancel tasks, 500 with each request; what has ended is left as it is."""
    return (yield from _step_many(session, "cancel", task_ids))


def retry_many(session: Session, task_ids: Sequence[str]) -> Flow[Stepped]:
    """Queue ended tasks again, 500 with each request; what has not ended is left as it is."""
    return (yield from _step_many(session, "retry", task_ids))


def wait_some(session: Session, task_ids: Sequence[str], timeout_s: float = LONGEST_WAIT_S) -> Flow[list[Task]]:
    """Return those of up to 500 tasks that have ended, as soon as one has; none after the time."""
    answer = yield from call(session, _wait_request(task_ids, timeout_s))
    if answer.status != _METHOD_NOT_ALLOWED:
        return read(answer, _Ended).tasks
    # A server from before that route: ask for each, for as long as a wait lasts.
    waited_s = 0.0
    while True:
        ended = []
        for task_id in task_ids:
            found = yield from task(session, task_id)
            if found.has_ended:
                ended.append(found)
        if ended or waited_s >= timeout_s:
            return ended
        yield Pause(POLL_S)
        waited_s += POLL_S


def wait_each(
    session: Session, task_ids: Sequence[str], timeout_s: float | None, clock: Callable[[], float]
) -> Flow[None]:
    """Emit each task once it has ended; raises WaitedTooLong."""
    pending = dict.fromkeys(task_ids)
    total, deadline = len(pending), None if timeout_s is None else clock() + timeout_s
    while pending:
        groups = [list(pending)[start : start + MAX_WAITED_FOR] for start in range(0, len(pending), MAX_WAITED_FOR)]
        # Several groups take turns: none may hold up the others for long.
        longest_s = LONGEST_WAIT_S if len(groups) == 1 else 1.0
        for group in groups:
            left_s = longest_s if deadline is None else deadline - clock()
            for found in (yield from wait_some(session, group, max(0.0, min(longest_s, left_s)))):
                del pending[found.id]
                yield Emit(found)
        if pending and deadline is not None and clock() >= deadline:
            raise WaitedTooLong(f"{len(pending)} of {total} tasks have not ended in {timeout_s:g} s")


def find(session: Session, text: str) -> Flow[Task]:
    """Return the task that a whole id, its beginning or its end names; raises NotThere or Ambiguous."""
    wanted = text.strip().lower()
    if len(wanted) == FULL_ID_LENGTH:
        return (yield from task(session, wanted))
    digits = wanted.replace("-", "")
    if not digits or any(digit not in "0123456789abcdef" for digit in digits):
        raise NotThere(f"{text!r} is no id of a task, nor the beginning or end of one. Look: octaskly tasks")
    found: dict[str, Task] = {}
    if len(digits) >= _TIME_DIGITS // 2:
        earliest, latest = _times(digits)
        window = yield from pages.rows(
            session, "tasks", Task, limit=pages.PAGE, created_after=earliest, created_before=latest
        )
        found |= {row.id: row for row in window if row.id.startswith(wanted)}
    if not found:
        newest = yield from pages.rows(session, "tasks", Task, limit=SEARCHED_BY_TAIL)
        found |= {row.id: row for row in newest if row.id.endswith(wanted) or row.id.startswith(wanted)}
    if not found:
        raise NotThere(f"There is no task {text!r} among the latest. Look: octaskly tasks, or give the whole id")
    if len(found) > 1:
        raise Ambiguous("task", text, sorted(found))
    return next(iter(found.values()))


def _step_many(session: Session, step: str, task_ids: Sequence[str]) -> Flow[Stepped]:
    stepped = Stepped([], [])
    for start in range(0, len(task_ids), MAX_STEPPED):
        request = post(f"tasks/{step}", {"ids": list(task_ids[start : start + MAX_STEPPED])})
        found = read((yield from call(session, request)), _Stepped)
        stepped.tasks.extend(found.cancelled or found.retried)
        stepped.not_possible.extend(found.not_possible)
    return stepped


def _at(task_id: str, *parts: str) -> str:
    return "/".join(("tasks", quote(task_id, safe=""), *parts))


def _wait_request(task_ids: Sequence[str], timeout_s: float) -> Request:
    seconds = max(0, min(60, round(timeout_s, 3)))
    request = post("tasks/wait", {"ids": list(task_ids), "timeout": seconds})
    return msgspec.structs.replace(request, timeout_s=timeout_s + 30, accepts=(_METHOD_NOT_ALLOWED,))


def _of_task(session: Session, request: Request, task_id: str) -> Flow[Any]:
    try:
        return (yield from call(session, request))
    except NotFound as error:
        text = f"There is no task {task_id}, or it is somebody else's. Look: octaskly tasks"
        raise NotFound(text, status=error.status) from error


def _times(digits: str) -> tuple[str, str]:
    """Return between which times the tasks were made whose ids begin so: an id's first 48 bits are its time in ms."""
    head = digits[:_TIME_DIGITS]
    earliest, latest = int(head.ljust(_TIME_DIGITS, "0"), 16), int(head.ljust(_TIME_DIGITS, "f"), 16)
    return _text(earliest, -_CLOCK_SLACK), _text(latest, _CLOCK_SLACK)


def _text(milliseconds: int, slack: timedelta) -> str:
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC) + slack
    except (OverflowError, OSError, ValueError):
        # Digits of an id's end may mean a time that no calendar has.
        moment = datetime(9999, 1, 1, tzinfo=UTC)
    return moment.isoformat().replace("+00:00", "Z")


def listed(session: Session, *, limit: int | None = None, **filters: str | None) -> Flow[None]:
    """Emit tasks, newest first."""
    yield from pages.each(session, "tasks", Task, limit=limit, **filters)
