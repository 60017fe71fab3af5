"""Django behind ASGI: each request on one thread of the pool, whatever becomes of it."""

from __future__ import annotations

import asyncio
import threading
from io import BytesIO
from types import SimpleNamespace

import pytest
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from accounts_app.rest.fallbacks import bad_request, server_error
from octaskly_site import threaded_django
from octaskly_site.threaded_django import ThreadedDjango


def where(_):
    """Say which thread this is."""
    return HttpResponse(threading.current_thread().name)


def fail(_):
    """Fail as a view of ours might."""
    raise RuntimeError("the view failed")


def stream(request):
    """Begin with an answer that does not end by itself."""

    async def pieces():
        yield b"begun"
        await asyncio.Event().wait()

    answer = StreamingHttpResponse(pieces())
    answer._resource_closers.append(request.META["closed"].set)
    return answer


handler400, handler500 = bad_request, server_error
urlpatterns = [
    path("where", where),
    path("api/fail", fail),
    path("stream", stream),
    re_path("^api/v1/tasks/?$", csrf_exempt(where)),
]


def scope_of(address: str) -> dict:
    """Return a request for this address, as a server passes it on."""
    headers = [(b"host", b"127.0.0.1")]
    return {"type": "http", "method": "GET", "path": address, "query_string": b"", "headers": headers}


@pytest.fixture
def served(settings):
    """Return Django with the views above."""
    settings.ROOT_URLCONF = __name__
    return ThreadedDjango(1)


def test_a_request_is_answered_on_a_thread_of_the_pool(served):
    """From its first middleware to its last; its body is closed after it."""
    body = BytesIO()
    answer = asyncio.run(served.answer(scope_of("/where"), body))
    assert (answer.content, answer["Content-Length"]) == (b"octaskly-web_0", "14")
    assert body.closed


def test_the_connections_of_a_request_that_failed_are_not_used_again(served, monkeypatch):
    """Whatever failed may be broken beyond it."""
    closed_by = []
    closing = SimpleNamespace(close_all=lambda: closed_by.append(threading.current_thread().name))
    monkeypatch.setattr(threaded_django, "connections", closing)
    assert asyncio.run(served.answer(scope_of("/where"), BytesIO())).status_code == 200
    assert closed_by == []
    assert asyncio.run(served.answer(scope_of("/api/fail"), BytesIO())).status_code == 500
    assert closed_by == ["octaskly-web_0"]


def test_a_file_of_the_pages_is_read_on_the_thread(served):
    """It is there as a whole when the loop begins to send it."""

    async def story() -> bytes:
        answer = await served.answer(scope_of("/static/admin/css/base.css"), BytesIO())
        content = b"".join([piece async for piece in answer])
        answer.close()
        return content

    assert b"body" in asyncio.run(story())


def test_a_stream_is_closed_when_its_client_leaves(served, monkeypatch):
    """Also while it waits for something to send."""
    closed = threading.Event()
    create = served.create_request

    def create_request(scope, body):
        request, refusal = create(scope, body)
        request.META["closed"] = closed
        return request, refusal

    monkeypatch.setattr(served, "create_request", create_request)

    async def story() -> list[dict]:
        messages: asyncio.Queue[dict] = asyncio.Queue()
        sent: list[dict] = []

        async def send(message: dict) -> None:
            sent.append(message)
            if message.get("body") == b"begun":
                messages.put_nowait({"type": "http.disconnect"})

        messages.put_nowait({"type": "http.request"})
        await served(scope_of("/stream"), messages.get, send)
        return sent

    assert [message.get("body") for message in asyncio.run(story())] == [None, b"begun"]
    assert closed.is_set()


def test_submissions_have_one_thread_for_themselves(settings):
    """They take turns at the write lock anyway; whatever the form of the address."""
    settings.ROOT_URLCONF = __name__
    served = ThreadedDjango(2)
    for address in ("/api/v1/tasks", "/api/v1/tasks/"):
        answer = asyncio.run(served.answer({**scope_of(address), "method": "POST"}, BytesIO()))
        assert answer.content == b"octaskly-submissions_0"
    assert asyncio.run(served.answer(scope_of("/api/v1/tasks"), BytesIO())).content == b"octaskly-web_0"


@pytest.mark.parametrize(
    ("address", "headers", "is_quick"),
    [
        ("/api/v1/tasks", {}, True),
        ("/api/v1/tasks", {b"cookie": b"sessionid=x"}, False),
        ("/api/v1/tasks", {b"accept": b"text/html"}, False),
        ("/api/v1/tasks", {b"authorization": b"Basic x"}, False),
        ("/where", {}, False),
    ],
)
def test_a_program_with_a_token_goes_past_the_middleware_of_pages(settings, monkeypatch, address, headers, is_quick):
    """Its answer has the headers of all others; cookies, pages and other ways to sign in need sessions."""
    settings.ROOT_URLCONF = __name__
    seen = []
    process = SessionMiddleware.process_request
    monkeypatch.setattr(SessionMiddleware, "process_request", lambda *args: (seen.append(1), process(*args))[1])
    scope = scope_of(address)
    given = {b"host": b"127.0.0.1", b"authorization": b"Bearer x", **headers}
    answer = asyncio.run(ThreadedDjango(1).answer({**scope, "headers": list(given.items())}, BytesIO()))
    assert bool(seen) is not is_quick
    names = (
        "X-Content-Type-Options",
        "Referrer-Policy",
        "Cross-Origin-Opener-Policy",
        "X-Frame-Options",
        "Content-Length",
    )
    assert [name for name in names if name not in answer] == []


def test_a_foreign_name_of_the_host_is_refused_on_the_quick_way_too(served):
    """DNS rebinding ends here."""
    headers = [(b"host", b"evil.example"), (b"authorization", b"Bearer x")]
    answer = asyncio.run(served.answer({**scope_of("/api/v1/tasks"), "headers": headers}, BytesIO()))
    assert (answer.status_code, answer["X-Content-Type-Options"]) == (400, "nosniff")
