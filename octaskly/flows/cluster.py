"""Workers, join tokens and counts."""

from __future__ import annotations

import difflib

import msgspec

from octaskly.answers import JoinToken, Stats, Worker
from octaskly.effects import Flow
from octaskly.errors import Ambiguous, NotThere
from octaskly.flows import pages
from octaskly.flows.calls import call, get, post, read
from octaskly.session import Session


def workers(session: Session) -> Flow[list[Worker]]:
    """Return the workers, newest first."""
    return (yield from pages.rows(session, "workers", Worker))


def find_worker(session: Session, text: str) -> Flow[Worker]:
    """Return the worker of this name, id or beginning of an id; raises NotThere or Ambiguous."""
    known = yield from workers(session)
    named = [worker for worker in known if text in {worker.name, worker.id}]
    found = named or [worker for worker in known if worker.id.startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise Ambiguous("worker", text, [f"{worker.id} ({worker.name})" for worker in found])
    close = difflib.get_close_matches(text, [worker.name for worker in known], n=1)
    hint = f" Did you mean {close[0]}?" if close else " Look: octaskly workers"
    raise NotThere(f"There is no worker {text!r}.{hint}")


def steer_worker(session: Session, worker_id: str, what: str, reason: str = "") -> Flow[Worker]:
    """Approve, suspend, revoke, drain or resume a worker."""
    body = {"reason": reason} if reason else {}
    return read((yield from call(session, post(f"workers/{worker_id}/{what}", body))), Worker)


def join_token(session: Session, *, uses: int, ttl_s: int, auto_approve: bool) -> Flow[JoinToken]:
    """Return a new join token."""
    request = post("join-tokens", {"uses": uses, "ttl_s": ttl_s, "auto_approve": auto_approve})
    # Sent twice it would be two tokens.
    once = msgspec.structs.replace(request, is_repeatable=False)
    return read((yield from call(session, once)), JoinToken)


def stats(session: Session) -> Flow[Stats]:
    """Return counts and load."""
    return read((yield from call(session, get("stats"))), Stats)
