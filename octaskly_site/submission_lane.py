"""Answers submissions on one thread, and commits together what came together.

They take turns at the database's write lock anyway, and on threads of their own they would fight for the interpreter at
each statement besides: one thread is faster than eight. A commit costs the same whatever it holds, so those that came while
the thread was busy share the next one. Each of them is a savepoint, stored or refused by itself; nobody is answered before
the commit. Where anything goes wrong with that, nothing is stored, and each is answered again by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, Final

from django.db import transaction
from django.http.response import HttpResponseBase

logger = logging.getLogger(__name__)

MOST_TOGETHER: Final = 8
"""Requests in one commit: while they are answered nobody else writes."""
MAX_SMALL_BYTES: Final = 64 << 10
"""Of a body. A longer one brings many tasks, which are worth a commit of their own."""
SERVER_ERRORS: Final = 500
SUBMISSION_PATHS: Final = frozenset({"/api/v1/tasks", "/api/v1/tasks/"})


def is_submission(scope: Any) -> bool:
    """Return whether a request is one that submits tasks."""
    return scope["method"] == "POST" and scope["path"] in SUBMISSION_PATHS


class _NotTogether(Exception):
    """One of several failed, and perhaps because of another."""


@dataclass(frozen=True, slots=True, eq=False)
class _Submission:
    scope: Any
    body: IO[bytes]
    content: bytes | None
    """Of a small body, which can be read again."""
    answer: asyncio.Future[HttpResponseBase]

    def opened(self) -> IO[bytes]:
        """Return the body to be read from its beginning; who answers closes it."""
        return self.body if self.content is None else BytesIO(self.content)


class SubmissionLane:
    """Has submissions answered, in their order. Belongs to one loop."""

    def __init__(
        self,
        respond: Callable[[Any, IO[bytes]], HttpResponseBase],
        finish: Callable[[HttpResponseBase], None],
    ) -> None:
        """Take what answers a request, given its scope and body, and what is called outside of any transaction after it."""
        self._respond = respond
        self._finish = finish
        self._waiting: deque[_Submission] = deque()
        self._is_busy = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="octaskly-submissions")

    async def answer(self, scope: Any, body: IO[bytes]) -> HttpResponseBase:
        """Return the answer to a request whose body is this, after the commit of what it stored."""
        is_small = body.seek(0, os.SEEK_END) <= MAX_SMALL_BYTES
        body.seek(0)
        content = body.read() if is_small else None
        submission = _Submission(scope, body, content, asyncio.get_running_loop().create_future())
        self._waiting.append(submission)
        if not self._is_busy:
            self._begin()
        return await submission.answer

    def _begin(self) -> None:
        together = [self._waiting.popleft()]
        if together[0].content is not None:
            while self._waiting and len(together) < MOST_TOGETHER and self._waiting[0].content is not None:
                together.append(self._waiting.popleft())
        self._is_busy = True
        self._pool.submit(self._work, together, asyncio.get_running_loop())

    def _deliver(self, together: Sequence[_Submission], answers: Sequence[HttpResponseBase | BaseException]) -> None:
        for submission, answer in zip(together, answers, strict=True):
            if submission.answer.cancelled():
                continue
            if isinstance(answer, BaseException):
                submission.answer.set_exception(answer)
            else:
                submission.answer.set_result(answer)
        self._is_busy = False
        if self._waiting:
            self._begin()

    # --- on the thread -----------------------------------------------------------------------------

    def _work(self, together: Sequence[_Submission], loop: asyncio.AbstractEventLoop) -> None:
        answers: Sequence[HttpResponseBase | BaseException] | None = None
        if len(together) > 1:
            answers = self._answered_together(together)
        if answers is None:
            answers = [self._answered_alone(submission) for submission in together]
        loop.call_soon_threadsafe(self._deliver, together, answers)

    def _answered_alone(self, submission: _Submission) -> HttpResponseBase | BaseException:
        try:
            with submission.opened() as body:
                answer = self._respond(submission.scope, body)
            self._finish(answer)
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is waited for
            return error
        return answer

    def _answered_together(self, together: Sequence[_Submission]) -> list[HttpResponseBase] | None:
        """Return the answers, or None when nothing was stored."""
        answers: list[HttpResponseBase] = []
        committed: list[bool] = []
        try:
            with transaction.atomic():
                # A connection that is closed within a transaction ends it without a word.
                transaction.on_commit(lambda: committed.append(True))
                answers.extend(map(self._respond_within, together))
        except Exception as error:
            if committed:
                logger.exception("Submissions were stored, but not all that follows from it was done")
            else:
                logger.debug("Submissions that came together are answered one by one: %r", error)
        for answer in answers:
            self._finish(answer)
        return answers if committed else None

    def _respond_within(self, submission: _Submission) -> HttpResponseBase:
        answer = self._respond(submission.scope, submission.opened())
        if answer.status_code >= SERVER_ERRORS:
            raise _NotTogether(f"status {answer.status_code}")
        return answer
