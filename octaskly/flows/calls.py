"""One request and its answer: signed, repeated where that is safe and helps, and every refusal as a clear error."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from octaskly import errors
from octaskly.answers import TokenPair
from octaskly.effects import Answer, Flow, NoAnswer, Pause, Request
from octaskly.keeping import Login
from octaskly.session import Session

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
LOCK_PAUSE_S: Final = 0.05
LOCK_PATIENCE_S: Final = 30.0
RENEW_PATIENCE_S: Final = 10.0
"""Less than others wait for the lock that is held meanwhile."""
_BUSY: Final = frozenset({429, 503})
_UNAUTHORISED: Final = 401
_ERRORS: Final[dict[int, type[errors.ServerSaid]]] = {
    400: errors.Invalid, 403: errors.Forbidden, 404: errors.NotFound, 409: errors.Conflict, 410: errors.Gone,
    413: errors.TooLarge, 422: errors.Invalid, 429: errors.Busy, 503: errors.Busy, 507: errors.TooLarge,
}  # fmt: skip


class _Problem(msgspec.Struct):
    """An RFC 9457 document, as far as it is shown."""

    title: str = ""
    detail: str = ""
    errors: list[dict[str, str]] = []


def call(session: Session, request: Request) -> Flow[Answer]:
    """Return the answer to a signed request; renew the tokens, wait for a busy server, outlast a restart of it."""
    waited_s, pause_s, has_renewed = 0.0, FIRST_PAUSE_S, False
    if session.needs_tokens:
        yield from renew(session, session.login.access)
    while True:
        access = session.login.access
        if not access:
            raise errors.NotSignedIn(session.url)
        try:
            answer: Answer = yield _signed(request, access)
        except NoAnswer as lost:
            may_repeat = session.has_been_answered and request.is_repeatable and waited_s < session.patience_s
            if not may_repeat:
                raise errors.Unreachable(session.url, str(lost)) from lost
            wait_s = pause_s
        else:
            session.has_been_answered = True
            if answer.status == _UNAUTHORISED and not has_renewed:
                has_renewed = True
                yield from renew(session, access)
                continue
            if answer.status not in _BUSY or waited_s >= session.patience_s:
                return checked(answer, request)
            wait_s = _asked_wait_s(answer) or pause_s
            session.tell(f"The server is busy: {_problem(answer).detail or answer.status}; again in {wait_s:g} s")
        wait_s = min(wait_s, session.patience_s - waited_s)
        waited_s, pause_s = waited_s + wait_s, min(pause_s * 2, LONGEST_PAUSE_S)
        yield Pause(wait_s)


def sign_in(session: Session, username: str, password: str) -> Flow[Login]:
    """Return the session's login with tokens for a username and password."""
    body = msgspec.json.encode({"username": username, "password": password})
    answer = yield from _bare(session, Request(method="POST", path="/api/v1/auth/token", body=body))
    if answer.status == _UNAUTHORISED:
        raise errors.WrongPassword(
            f"{session.url} knows no user {username!r} with this password", status=_UNAUTHORISED, field="password"
        )
    login = session.renewed(read(checked(answer), TokenPair))
    return msgspec.structs.replace(login, username=username)


def sign_out(session: Session) -> Flow[None]:
    """End the sign-in at the server."""
    refresh = session.login.refresh
    if refresh:
        body = msgspec.json.encode({"refresh": refresh})
        answer = yield from _bare(session, Request(method="POST", path="/api/v1/auth/logout", body=body))
        # 401: it has ended already.
        if answer.status != _UNAUTHORISED:
            checked(answer)


def renew(session: Session, stale: str) -> Flow[None]:
    """Replace an access token that is stale, by whoever comes first: another process may have done it meanwhile."""
    keeper, waited_s = session.keeper, 0.0
    while not keeper.try_lock():
        if waited_s > LOCK_PATIENCE_S:
            raise errors.OctasklyError("Another octaskly process holds the lock of your login for too long")
        waited_s += LOCK_PAUSE_S
        yield Pause(LOCK_PAUSE_S)
    try:
        login = keeper.reload()
        if login.access != stale and not session.needs_tokens:
            return
        if login.refresh:
            body = msgspec.json.encode({"refresh": login.refresh})
            answer = yield from _refreshed(session, Request(method="POST", path="/api/v1/auth/refresh", body=body))
            if answer.status != _UNAUTHORISED:
                keeper.save(session.renewed(read(checked(answer), TokenPair)))
                return
        if session.password:
            keeper.save((yield from sign_in(session, login.username, session.password)))
            return
        if session.token_source:
            raise errors.SessionOver(f"{session.token_source} is not accepted, it may have expired")
        if login.access or login.refresh:
            raise errors.SessionOver
        raise errors.NotSignedIn(session.url)
    finally:
        keeper.unlock()


def _refreshed(session: Session, request: Request) -> Flow[Answer]:
    """Send a refresh token; one that a busy server has not looked at is not used up, and comes again."""
    waited_s = 0.0
    while True:
        answer = yield from _bare(session, request)
        wait_s = _asked_wait_s(answer) or FIRST_PAUSE_S
        if answer.status not in _BUSY or waited_s + wait_s > min(session.patience_s, RENEW_PATIENCE_S):
            return answer
        waited_s += wait_s
        yield Pause(wait_s)


def read(answer: Answer, kind: type[T]) -> T:
    """Return the body as a typed value."""
    return decoded(answer.body, kind)


def decoded(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return JSON as a typed value; raises BadAnswer."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.BadAnswer(f"The server's answer is not understood ({error}). Is it an Octaskly server?") from error


def checked(answer: Answer, request: Request | None = None) -> Answer:
    """Return an answer that is none of an error; raise what the others say."""
    is_accepted = request is not None and answer.status in request.accepts
    if 200 <= answer.status < 300 or is_accepted:  # noqa: PLR2004 - success
        return answer
    if answer.status == _UNAUTHORISED:
        raise errors.SessionOver
    problem = _problem(answer)
    field = next((entry.get("field", "") for entry in problem.errors), "")
    text = problem.detail or problem.title or _first_line(answer)
    if answer.status == 403:  # noqa: PLR2004 - Forbidden
        text = f"Your role does not allow this: {text} Ask an admin of the cluster"
    elif answer.status in _BUSY:
        text = f"The server is busy: {text}. Try again later"
    elif answer.status >= 500:  # noqa: PLR2004 - the server's own fault
        text = f"The server failed: {text}. Its log says more"
    raise _ERRORS.get(answer.status, errors.ServerSaid)(text, status=answer.status, field=field)


def _bare(session: Session, request: Request) -> Flow[Answer]:
    """Send without a token, once: what signs in must neither wait nor come twice."""
    headers = {"Content-Type": "application/json"}
    try:
        answer: Answer = yield msgspec.structs.replace(request, headers=headers, is_repeatable=False)
    except NoAnswer as lost:
        raise errors.Unreachable(session.url, str(lost)) from lost
    return answer


def _signed(request: Request, access: str) -> Request:
    return msgspec.structs.replace(request, headers={**request.headers, "Authorization": f"Bearer {access}"})


def _first_line(answer: Answer) -> str:
    """Return what an answer says that is no problem document: a proxy's, or that of a port which wants HTTPS."""
    lines = answer.body[:500].decode("utf-8", "replace").split("\n")
    is_text = answer.headers.get("content-type", "").startswith("text/plain")
    said = f": {lines[0].strip()}" if is_text and lines[0].strip() else ""
    return f"the server answered with {answer.status}{said}"


def _asked_wait_s(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _problem(answer: Answer) -> _Problem:
    try:
        return msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Problem()


def get(path: str, **query: Any) -> Request:
    """Return a GET; a query parameter that is None is left out."""
    return Request(method="GET", path=f"/api/v1/{path}", query=_texts(query))


def post(path: str, body: Any = None, **headers: str) -> Request:
    """Return a POST of JSON; raises Invalid for text that is none: arguments may hold bytes that are no UTF-8."""
    try:
        content = msgspec.json.encode({} if body is None else body)
    except UnicodeEncodeError as error:
        text = f"{error.object[max(0, error.start - 20) : error.end + 20]!r} is not valid Unicode, which a task must be"
        raise errors.Invalid(text, status=0) from error
    return Request(
        method="POST",
        path=f"/api/v1/{path}",
        body=content,
        headers={"Content-Type": "application/json", **headers},
    )


def _texts(query: dict[str, Any]) -> dict[str, str]:
    return {
        name: ("true" if value else "false") if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }
