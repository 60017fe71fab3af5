"""One request and its answer: repeated where that helps, signed anew where it must be, told where it fails."""

from __future__ import annotations

import json

import pytest

from octaskly import errors
from octaskly.effects import NoAnswer
from octaskly.flows import calls, cluster, tasks
from octaskly.keeping import Login, MemoryKeeper
from octaskly.session import FOR_EVER, Session
from tests.unit.octaskly.flow_script import URL, Played, answer, signed_in

STATS = {"workers": {}, "tasks": {}}
PAIR = {"access": "access-2", "refresh": "refresh-2"}
TASK = {"id": "1", "command": "x", "status": "queued"}


def test_a_request_carries_the_token() -> None:
    """The access token goes in the header that REST asks for."""
    played = Played(cluster.stats(signed_in()), answer(body=STATS))
    assert played.requests[0].headers["Authorization"] == "Bearer access-1"


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    """Retry-After is kept; without one the pauses grow."""
    script = [answer(503, retry_after="3"), answer(429), answer(429), answer(body=STATS)]
    assert Played(cluster.stats(signed_in()), *script).pauses == [3, 0.4, 0.8]


def test_patience_has_an_end() -> None:
    """A server that stays busy is told as such, not asked for ever."""
    session = signed_in()
    session.patience_s = 10
    with pytest.raises(errors.Busy, match="the queue is full"):
        Played(cluster.stats(session), *[answer(429, {"detail": "the queue is full"}, retry_after="6")] * 3)


def test_the_same_submission_is_sent_again() -> None:
    """A repeated submit has the same key and body, so that it counts once."""
    script = [answer(503), NoAnswer("reset"), answer(201, TASK)]
    first, *others = Played(tasks.submit(signed_in(), {"command": "x"}), *script).requests
    assert len(first.headers["Idempotency-Key"]) >= 20
    assert [(other.headers, other.body) for other in others] == [(first.headers, first.body)] * 2


def test_nobody_there_is_told_at_once() -> None:
    """Before the first answer a refused connection means a wrong address."""
    with pytest.raises(errors.Unreachable, match="octaskly dispatcher"):
        Played(cluster.stats(signed_in()), NoAnswer("Connection refused"))


def test_a_restart_is_outlasted() -> None:
    """After the first answer a lost connection is tried again."""
    session = signed_in()
    session.has_been_answered = True
    assert len(Played(cluster.stats(session), NoAnswer("a"), NoAnswer("b"), answer(body=STATS)).pauses) == 2


def test_what_must_not_happen_twice_is_not_repeated() -> None:
    """A join token whose answer was lost is not made again."""
    session = signed_in()
    session.has_been_answered = True
    with pytest.raises(errors.Unreachable):
        Played(cluster.join_token(session, uses=1, ttl_s=1, auto_approve=False), NoAnswer("reset"))


def test_a_stale_token_is_renewed_and_the_request_sent_again() -> None:
    """The new pair is kept, and the old refresh token never used again."""
    session = signed_in()
    played = Played(cluster.stats(session), answer(401), answer(body=PAIR), answer(body=STATS))
    assert played.asked == ["GET /api/v1/stats", "POST /api/v1/auth/refresh", "GET /api/v1/stats"]
    assert json.loads(played.requests[1].body) == {"refresh": "refresh-1"}
    assert "Authorization" not in played.requests[1].headers
    assert played.requests[2].headers["Authorization"] == "Bearer access-2"
    assert session.login.refresh == "refresh-2"


def test_a_token_about_to_end_is_renewed_first() -> None:
    """A large upload is not sent only to be refused."""
    played = Played(cluster.stats(signed_in(access_expires_at=0.0)), answer(body=PAIR), answer(body=STATS))
    assert played.asked == ["POST /api/v1/auth/refresh", "GET /api/v1/stats"]


def test_what_another_process_renewed_is_used() -> None:
    """The refresh token is not used up twice when two processes meet."""

    class Renewed(MemoryKeeper):
        def reload(self) -> Login:
            self.login = Login(url=URL, access="access-9", refresh="refresh-9", access_expires_at=FOR_EVER)
            return self.login

    keeper = Renewed(Login(url=URL, access="access-1", refresh="refresh-1", access_expires_at=FOR_EVER))
    played = Played(cluster.stats(Session(keeper)), answer(401), answer(body=STATS))
    assert played.requests[1].headers["Authorization"] == "Bearer access-9"


def test_a_lock_is_waited_for_without_holding_anything_up() -> None:
    """Whoever has the lock gets the time to finish."""
    session = signed_in()
    assert session.keeper.try_lock()
    flow = cluster.stats(session)
    next(flow)
    pause = flow.send(answer(401))
    assert type(pause).__name__ == "Pause"
    session.keeper.unlock()
    assert flow.send(None).path == "/api/v1/auth/refresh"
    flow.close()
    assert session.keeper.try_lock(), "the lock is given back when the flow is left"


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (signed_in(), "Your session is over. Run: octaskly login"),
        (Session(MemoryKeeper(Login(url=URL, access="x")), token_source="OCTASKLY_TOKEN"), "OCTASKLY_TOKEN is not"),
    ],
)
def test_a_session_that_is_over(session, message) -> None:
    """A refused refresh token, or a token that cannot be renewed, says what to do."""
    script = [answer(401)] if session.token_source else [answer(401), answer(401)]
    with pytest.raises(errors.SessionOver, match=message):
        Played(cluster.stats(session), *script)


def test_nobody_signed_in() -> None:
    """Without any token nothing is sent."""
    with pytest.raises(errors.NotSignedIn, match="octaskly login http://server"):
        Played(cluster.stats(Session(MemoryKeeper(Login(url=URL)))))


def test_a_password_signs_in_again() -> None:
    """A program that brought its password outlives its refresh token."""
    session = Session(MemoryKeeper(Login(url=URL, username="me")), password="secret")
    played = Played(cluster.stats(session), answer(body=PAIR), answer(body=STATS))
    assert json.loads(played.requests[0].body) == {"username": "me", "password": "secret"}


def test_a_refresh_token_that_comes_too_soon_is_not_used_up() -> None:
    """The server says when it may come again; for long it is not waited, since others wait for the login's lock."""
    session = signed_in()
    script = [answer(401), answer(429, retry_after="2"), answer(body=PAIR), answer(body=STATS)]
    played = Played(cluster.stats(session), *script)
    assert (played.pauses, session.login.access) == ([2], "access-2")
    assert played.requests[1].body == played.requests[2].body
    with pytest.raises(errors.Busy):
        Played(cluster.stats(signed_in()), answer(401), answer(429, retry_after="60"))


def test_a_wrong_password_is_told_and_not_tried_again() -> None:
    """Guessing would lock the user out."""
    with pytest.raises(errors.WrongPassword):
        Played(calls.sign_in(signed_in(), "me", "wrong"), answer(401))
    with pytest.raises(errors.Busy):
        Played(calls.sign_in(signed_in(), "me", "wrong"), answer(429, retry_after="900"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
    ],
)
def test_refusals_have_their_types_fields_and_words(status, kind) -> None:
    """What the server says is what is raised."""
    body = {"detail": "timeout: too long", "errors": [{"field": "timeout", "message": "too long"}]}
    with pytest.raises(kind) as caught:
        Played(cluster.stats(signed_in()), answer(status, body))
    assert (caught.value.status, caught.value.field) == (status, "timeout")
    assert "timeout: too long" in str(caught.value)


def test_an_answer_of_something_else_is_told() -> None:
    """Another program behind the port is no traceback."""
    with pytest.raises(errors.BadAnswer, match="Octaskly"):
        Played(cluster.stats(signed_in()), answer(200, ["hello"]))
