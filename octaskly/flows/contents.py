"""Raw bytes: output streams, files that go up, files that come home."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from octaskly.answers import File, Output, Task
from octaskly.effects import Answer, Emit, Flow, NoAnswer, Pause, Read, Request
from octaskly.errors import BadAnswer, NotThere, Unreachable
from octaskly.flows import pages
from octaskly.flows.calls import FIRST_PAUSE_S, LONGEST_PAUSE_S, call, get, read
from octaskly.session import Session

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_NOT_FOUND: Final = 404
_RANGE_NOT_SATISFIABLE: Final = 416
_PARTIAL: Final = 206


def stream(session: Session, task_id: str, name: str, *, offset: int = 0) -> Flow[None]:
    """Emit the pieces of what was kept of stdout or stderr."""
    yield from _pieces(session, f"/api/v1/tasks/{task_id}/{name}", {}, offset)


def exact_stream(session: Session, task: Task, name: str) -> Flow[bytes]:
    """Return all that was kept of an ended task's stdout or stderr.

    The text in the task is the bytes, unless something was left out or was no UTF-8: then they are asked for.
    """
    text, is_cut = getattr(task, name), getattr(task, f"{name}_truncated")
    if not is_cut and REPLACEMENT not in text:
        return str(text).encode()
    answer = yield from call(session, get(f"tasks/{task.id}/{name}"))
    return bytes(answer.body)


def outputs(session: Session, task_id: str, attempt: int | None = None) -> Flow[list[Output]]:
    """Return the files that a task left."""
    answer = yield from call(session, get(f"tasks/{task_id}/outputs", attempt=attempt))
    found: list[Output] = _listed(answer)
    return found


def output_pieces(session: Session, task_id: str, output: Output) -> Flow[None]:
    """Emit the content of an output; raises BadAnswer when it is not what the list promised."""
    query = {"attempt": str(output.attempt)} if output.attempt else {}
    path = f"/api/v1/tasks/{task_id}/outputs/{quote(output.name)}"
    yield from _pieces(session, path, query, 0, sha256=output.sha256)


def files(session: Session, **query: str) -> Flow[None]:
    """Emit the stored files."""
    yield from pages.each(session, "files", File, limit=None, **query)


def file_pieces(session: Session, name: str) -> Flow[None]:
    """Emit the content of a stored file."""
    yield from _pieces(session, f"/api/v1/files/{quote(name)}", {}, 0)


def has_content(session: Session, sha256: str) -> Flow[bool]:
    """Return whether a content was uploaded already."""
    request = Request(method="HEAD", path=f"/api/v1/files/sha256:{sha256}", accepts=(_NOT_FOUND,))
    answer = yield from call(session, request)
    return answer.status != _NOT_FOUND


def put_file(session: Session, name: str, source: Path | bytes, size: int) -> Flow[File]:
    """Store a file under a name; `sha256:<hex>` is a name that the server checks against the content."""
    request = Request(
        method="PUT",
        path=f"/api/v1/files/{quote(name, safe='/:')}",
        headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
        body=source if isinstance(source, bytes) else b"",
        upload=source if isinstance(source, Path) else None,
        timeout_s=300.0,
    )
    return read((yield from call(session, request)), File)


def upload(session: Session, source: Path | bytes, sha256: str, size: int) -> Flow[bool]:
    """Have a content on the server; return whether it had to be sent."""
    if (yield from has_content(session, sha256)):
        return False
    yield from put_file(session, f"sha256:{sha256}", source, size)
    return True


def remove_file(session: Session, name: str) -> Flow[None]:
    """Delete a stored file."""
    yield from call(session, Request(method="DELETE", path=f"/api/v1/files/{quote(name)}"))


def _pieces(session: Session, path: str, query: dict[str, str], offset: int, sha256: str = "") -> Flow[None]:
    """Emit a body piece by piece; after a lost connection go on where it broke off."""
    waited_s, pause_s = 0.0, FIRST_PAUSE_S
    digest = hashlib.sha256() if sha256 else None
    while True:
        answer: Answer = yield from call(session, _from(path, query, offset))
        if answer.status == _RANGE_NOT_SATISFIABLE:
            break
        if offset and answer.status != _PARTIAL:
            raise BadAnswer(f"{path} cannot be read from its middle; try again")
        try:
            while piece := (yield Read()):
                offset, waited_s, pause_s = offset + len(piece), 0.0, FIRST_PAUSE_S
                if digest is not None:
                    digest.update(piece)
                yield Emit(piece)
            break
        except NoAnswer as lost:
            if waited_s >= session.patience_s:
                raise Unreachable(session.url, str(lost)) from lost
        yield Pause(pause_s)
        waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, LONGEST_PAUSE_S)
    if digest is not None and digest.hexdigest() != sha256:
        raise BadAnswer(f"{path} came damaged; try again")


def _from(path: str, query: dict[str, str], offset: int) -> Request:
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    return Request(
        method="GET", path=path, query=query, headers=headers, is_open=True, accepts=(_RANGE_NOT_SATISFIABLE,)
    )


class _Outputs(msgspec.Struct):
    results: list[Output]


def _listed(answer: Answer) -> list[Output]:
    """Read a plain list, or one in a page."""
    if answer.body.lstrip()[:1] == b"[":
        return read(answer, list[Output])
    return read(answer, _Outputs).results


def named(found: list[Output], name: str) -> Output:
    """Return the output of this name; raises NotThere."""
    for output in found:
        if output.name == name:
            return output
    close = difflib.get_close_matches(name, [output.name for output in found], n=1)
    known = f"Did you mean {close[0]}?" if close else f"It left {len(found)} files"
    raise NotThere(f"The task left no output {name!r}. {known}")
