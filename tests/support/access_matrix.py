"""Asks every route of the URLconf in the name of every kind of caller; what each is answered makes the access matrix."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from django.contrib.admindocs.views import simplify_regex
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client, override_settings
from django.urls import URLResolver, get_resolver
from rest_framework.test import APIClient

from accounts_app import tokens
from accounts_app.roles import Role
from tasks_app import file_services
from tasks_app.models import Task
from workers_app.models import Worker

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "access_matrix.txt"
BLESS_VARIABLE: Final = "BLESS_ACCESS_MATRIX"
LIVE: Final = "octaskly_site.live.urls"
"""Where the WebSockets and the requests that last are asked about; its routes are shown with `live` in front."""
CALLERS: Final[dict[str, dict[str, Any]]] = {
    "anonymous": {},
    "disabled": {"roles": (Role.ADMIN,), "is_staff": True, "is_superuser": True},
    "nobody": {},
    "Worker": {"roles": (Role.WORKER,)},
    "Client": {"roles": (Role.CLIENT,)},
    "Dispatcher": {"roles": (Role.DISPATCHER,)},
    "Admin": {"roles": (Role.ADMIN,)},
    "staff": {"is_staff": True},
    "Admin+staff": {"roles": (Role.ADMIN,), "is_staff": True},
    "superuser": {"is_staff": True, "is_superuser": True},
}
"""`nobody` is signed in and has no role; `staff` may enter Django's admin and has no role either."""
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PAGE_METHODS: Final = ("GET", "POST")
CANARY: Final = "the-other-clients-canary"
"""Stands in whatever belongs to the other client: whoever is not to see that must not see this."""
UNAUTHORISED: Final = 401
_WIDTH: Final = 53
BEGIN: Final = _WIDTH + 9
"""So many characters of a line say what is asked."""
NO_CONTENT: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a URLconf."""

    texts: tuple[str, ...]
    """With <names> for what varies, and without the slash at the end that it may have or not; several where the pattern
    has alternatives."""
    callback: Any
    has_both_slash_forms: bool
    urlconf: str | None = None

    @property
    def is_rest(self) -> bool:
        """Return whether a REST view stands behind it."""
        return hasattr(self.callback, "cls")

    @property
    def methods(self) -> list[str]:
        """Return the methods that it is asked with: those of a REST view, and the two that pages know."""
        if not self.is_rest:
            return list(PAGE_METHODS)
        names = self.callback.initkwargs.get("http_method_names", self.callback.cls.http_method_names)
        return [method for method in METHODS if method.lower() in names and hasattr(self.callback.cls, method.lower())]


def routes() -> Iterator[Route]:
    """Yield every route of the web server and of the live requests, each once."""
    for urlconf in (None, LIVE):
        seen = set()
        for pattern, callback in _walk(get_resolver(urlconf).url_patterns, ""):
            if pattern not in seen:
                seen.add(pattern)
                has_both = re.search(r"/\?(\$|\\Z)$", pattern) is not None
                yield Route(_SHAPES.get(pattern) or (_text(pattern, has_both=has_both),), callback, has_both, urlconf)


def _text(pattern: str, *, has_both: bool) -> str:
    without_names = re.sub(r"\(\?P<\w+>.*\)", "", pattern)
    assert "(?:" not in without_names, f"{pattern} has alternatives: name them in _SHAPES"
    text = re.sub(r"<\w+:(\w+)>", r"<\1>", simplify_regex(pattern))
    return text.rstrip("/") if has_both else text


def _walk(patterns: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, path)
        else:
            yield path, pattern.callback


@dataclass(slots=True)
class Scene:
    """What a caller's requests meet: things of its own, and the same things of another client."""

    own_task: str
    foreign_task: str
    worker: str

    def addresses(self, route: Route) -> list[tuple[str, str]]:
        """Return how a route is asked for, each with what the matrix calls it."""
        named = [(text, text) for text in route.texts]
        for name, choices in self._choices(route.texts[0]).items():
            if f"<{name}>" in route.texts[0]:
                named = [
                    (shown.replace(f"<{name}>", f"{{{label}}}"), asked.replace(f"<{name}>", value))
                    for shown, asked in named
                    for label, value in choices
                ]
        assert not any("<" in asked for _, asked in named), f"{route.texts}: nobody said what to ask for"
        return named + [(f"{shown}?{query}", f"{asked}?{query}") for shown, asked in named for query in _asked(shown)]

    def _choices(self, text: str) -> dict[str, list[tuple[str, str]]]:
        is_of_task = text.startswith(("/api/v1/tasks/", "/tasks/"))
        tasks = [("own task", self.own_task), ("foreign task", self.foreign_task)]
        return {
            "pk": tasks if is_of_task else [("worker", self.worker)],
            "name": [("own file", "own.txt"), ("foreign file", "foreign.txt")]
            if text == "/api/v1/files/<name>"
            else [("file", "f.txt")],
            "object_id": [("id", "1")],
            "id": [("id", "1")],
            "content_type_id": [("id", "1")],
            "app_label": [("app", "auth")],
            "sha256": [("digest", NO_CONTENT)],
            "page": [("page", "tasks")],
            "url": [("anything", "nothing-here")],
        }

    def body(self, method: str, shown: str) -> Any:
        """Return a body with which whoever may is let do it, as far as the matrix is to see that."""
        if method == "PUT":
            return b"content"
        ids = [self.foreign_task if "foreign" in shown else self.own_task]
        return {
            "/api/v1/tasks": {"command": "true"},
            "/api/v1/tasks/cancel": {"ids": ids},
            "/api/v1/tasks/retry": {"ids": ids},
            "/api/v1/tasks/wait": {"ids": ids, "timeout": 0},
            "/api/v1/tasks/wait?foreign": {"ids": [self.foreign_task], "timeout": 0},
            "/api/v1/tasks/cancel?foreign": {"ids": [self.foreign_task]},
        }.get(shown, {})


_SHAPES: Final = {
    r"^(?:join\.(?:sh|ps1)|worker/[A-Za-z0-9_-]{1,48}\.zip)$": ("/join.sh", "/join.ps1", "/worker/any.zip"),
    r"^api/v1/tasks/(?P<pk>[0-9A-Za-z-]{1,36})/(?:stdout|stderr)/?$": ("/api/v1/tasks/<pk>/stdout",),
}
"""Patterns that have alternatives, which a text cannot show."""
_QUERIES: Final = {
    "/api/v1/files": ("owner=victim",),
    "/api/v1/files/{foreign file}": ("owner=victim",),
    "/api/v1/audit/export": ("format=csv",),
    "/api/v1/tasks/cancel": ("foreign",),
    "/api/v1/tasks/wait": ("foreign",),
}


def _asked(shown: str) -> tuple[str, ...]:
    return _QUERIES.get(shown, ())


class Caller:
    """One kind of caller, signed in as far as it can be, by token for REST and by session for pages."""

    def __init__(self, name: str, foreign_task: str, worker: str) -> None:
        self.name = name
        self._api, self._pages = APIClient(), Client()
        user = _user(f"caller-{name}", **CALLERS[name])
        if name != "anonymous":
            self._api.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.issue(user).access}")
            self._pages.force_login(user)
        file_services.upload(user, "own.txt", io.BytesIO(b"own"), None)
        self.scene = Scene(_task(user), foreign_task, worker)
        if name == "disabled":
            user.is_active = False
            user.save()
        self._cookies = dict(self._pages.cookies)

    def answer(self, route: Route, method: str, shown: str, asked: str) -> str:
        """Return the status of an answer, with `!` when it tells of the other client; what the request did is undone."""
        with transaction.atomic():
            answer = self._send(route, method, asked, self.scene.body(method, shown))
            body = b"".join(answer.streaming_content) if answer.streaming else answer.content
            transaction.set_rollback(True)
        if answer.status_code == UNAUTHORISED:
            assert "WWW-Authenticate" in answer, asked
        self._pages.cookies.clear()
        self._pages.cookies.update(self._cookies)
        return f"{answer.status_code}{'!' if CANARY.encode() in body else ''}"

    def _send(self, route: Route, method: str, asked: str, body: Any) -> Any:
        if not route.is_rest:
            return self._pages.generic(method, asked)
        kind: dict[str, Any] = {"content_type": "application/octet-stream"} if isinstance(body, bytes) else {}
        with override_settings(ROOT_URLCONF=route.urlconf) if route.urlconf else transaction.atomic():
            ask: Callable[..., Any] = getattr(self._api, method.lower())
            return ask(asked) if method == "GET" else ask(asked, body, **(kind or {"format": "json"}))


def is_slow(line: str) -> bool:
    """Return whether a line of the matrix is for `make slow`: Django's admin, and what is the same as another line."""
    where, method = line[:_WIDTH].rstrip(), line[_WIDTH + 1 : BEGIN].strip()
    is_page = "/api/" not in where
    return (
        where.startswith("/admin/")
        or where == "/api/v1/schema"
        or method == "OPTIONS"
        or (is_page and method == "POST")
    )


def head() -> str:
    """Return the first line of the table."""
    return f"{'route':{_WIDTH}} {'method':7} " + " ".join(CALLERS)


def matrix(*, slow: bool) -> list[str]:
    """Return half of the table, sorted: a line for each route, ownership and method, a column for each caller."""
    victim = _user("victim", roles=(Role.CLIENT,))
    file_services.upload(victim, "foreign.txt", io.BytesIO(CANARY.encode()), None)
    foreign_task, worker = _task(victim, f"echo {CANARY}"), _worker()
    callers = [Caller(name, foreign_task, worker) for name in CALLERS]
    return sorted(
        (begin + _answers(route, method, position, callers)).rstrip()
        for route, method, position, begin in questions()
        if is_slow(begin) == slow
    )


def questions() -> Iterator[tuple[Route, str, int, str]]:
    """Yield for each line of the table the route, the method, which of the route's addresses, and how the line begins."""
    scene = Scene("own", "foreign", "worker")
    for route in routes():
        for position, (shown, _) in enumerate(scene.addresses(route)):
            for method in route.methods:
                # Whose things they are changes nothing about what may be asked of them.
                if method != "OPTIONS" or not ("foreign" in shown or "?" in shown):
                    where = f"live {shown}" if route.urlconf else shown
                    yield route, method, position, f"{where:{_WIDTH}} {method:7} "


def _answers(route: Route, method: str, position: int, callers: list[Caller]) -> str:
    cells = []
    for caller in callers:
        shown, asked = caller.scene.addresses(route)[position]
        cells.append(f"{caller.answer(route, method, shown, asked):<{len(caller.name)}}")
    return " ".join(cells)


def _user(name: str, *, roles: tuple[Role, ...] = (), **flags: bool) -> Any:
    user = get_user_model().objects.create(username=name, password=make_password(None), **flags)
    user.groups.set(Group.objects.filter(name__in=[role.value for role in roles]))
    return user


def _task(owner: Any, command: str = "true") -> str:
    now = datetime.now(UTC)
    task_id = uuid.uuid4().hex
    Task.objects.create(
        id=task_id, command=command, stdout=command, owner=owner, sandbox="strict", created_at=now, available_at=now
    )
    return task_id


def _worker() -> str:
    key = uuid.uuid4().hex
    return Worker.objects.create(id=key, name="w", public_key_sha256=key * 2, created_at=datetime.now(UTC)).id
