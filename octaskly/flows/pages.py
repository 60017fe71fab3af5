"""Lists, page after page."""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from octaskly.effects import Emit, Flow, Request
from octaskly.flows.calls import call, decoded, get, read
from octaskly.session import Session

T = TypeVar("T", bound=msgspec.Struct)

PAGE: Final = 500


class _Page(msgspec.Struct):
    results: msgspec.Raw
    next: str | None = None


def each(session: Session, path: str, kind: type[T], *, limit: int | None = None, **query: object) -> Flow[None]:
    """Emit what a list holds, up to a limit."""
    request, left = _first(path, limit, query), limit
    while request is not None and (left is None or left > 0):
        found, request = yield from _page(session, request, kind)
        for row in found[:left]:
            yield Emit(row)
        if left is not None:
            left -= len(found)


def rows(session: Session, path: str, kind: type[T], *, limit: int | None = None, **query: object) -> Flow[list[T]]:
    """Return what a list holds, up to a limit."""
    request, collected = _first(path, limit, query), list[T]()
    while request is not None and (limit is None or len(collected) < limit):
        found, request = yield from _page(session, request, kind)
        collected += found
    return collected[:limit]


def _first(path: str, limit: int | None, query: dict[str, object]) -> Request | None:
    return get(path, limit=PAGE if limit is None else max(1, min(PAGE, limit)), **query)


def _page(session: Session, request: Request, kind: type[T]) -> Flow[tuple[list[T], Request | None]]:
    page = read((yield from call(session, request)), _Page)
    found: list[T] = decoded(page.results, list[kind])  # type: ignore[valid-type]
    if not page.next or not found:
        return found, None
    # Only what it asks: the address is ours, whatever the server thinks it is called.
    return found, msgspec.structs.replace(request, query=dict(parse_qsl(urlsplit(page.next).query)))
