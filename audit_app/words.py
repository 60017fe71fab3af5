"""Says each row of the audit trail in one plain sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from audit_app.models import AuditEntry

_LONGEST_QUOTE: Final = 200
_JOINERS: Final = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_ACTORS: Final = {"engine": "the dispatcher", "operator": "an operator at the command line", "": "somebody"}


_LIMITED: Final = {
    "denial": "refused requests that are written down",
    "join_token": "join tokens",
    "request": "requests",
    "sign_in": "failed sign-ins",
    "token": "tokens",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """What a sentence is made of."""

    actor: str
    worker: str
    details: Mapping[str, Any]
    has_worker: bool = True

    def __getitem__(self, name: str) -> str:
        """Return a detail as text, at a bounded length; empty when it is missing."""
        value = self.details.get(name)
        if isinstance(value, list):
            value = ", ".join(str(one) for one in value)
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"

    def after(self, before: str, name: str) -> str:
        """Return the detail behind some words, or nothing when it is missing."""
        return f"{before}{self[name]}" if self[name] else ""

    def count(self, name: str, thing: str, things: str = "") -> str:
        """Return "1 thing", "2 things"."""
        number = self[name] or "0"
        return f"{number} {thing if number == '1' else things or f'{thing}s'}"


def describe(entry: AuditEntry, worker_names: Mapping[str, str] | None = None) -> str:
    """Return the sentence of a row; workers that have no name in the mapping are called by their id."""
    worker = (worker_names or {}).get(entry.worker_id) or entry.worker_id[:8]
    row = _Row(
        actor=_ACTORS.get(entry.actor, entry.actor),
        worker=worker or "a worker",
        details=details_of(entry),
        has_worker=bool(entry.worker_id),
    )
    words = _WORDS.get(entry.event_type)
    return _printable(words(row) if words is not None else _unknown(entry.event_type, row))


def details_of(entry: AuditEntry) -> Mapping[str, Any]:
    """Return a row's details; none where somebody spoilt them in the database: the check of the chain says that."""
    try:
        details = json.loads(entry.details)
    except ValueError:
        return {}
    return details if isinstance(details, dict) else {}


def _printable(text: str) -> str:
    """Return the text on one line; names are what strangers typed, and could turn the line's end around."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in _JOINERS else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}"
        for one in text
    )


def _unknown(event_type: str, row: _Row) -> str:
    details = ", ".join(f"{name.replace('_', ' ')} {row[name]}" for name in row.details)
    return event_type.replace("_", " ") + (f": {details}" if details else "")


def _login(row: _Row) -> str:
    how = {"session": "in a browser", "token": "over REST"}.get(row["method"], "")
    return f"{row.actor} signed in {how}".rstrip() + row.after(" from ", "address")


def _login_failed(row: _Row) -> str:
    locked = "; further attempts are refused for a while" if row.details.get("locked") else ""
    failures = row.count("failures", "failure")
    return f"sign-in failed for '{row['username']}'{row.after(' from ', 'address')} ({failures}){locked}"


def _account_changed(row: _Row) -> str:
    others = {name: row[name] for name in row.details if name not in {"username", "change"}}
    details = ", ".join(f"{name} {text}" for name, text in others.items())
    change = row["change"] or "changed"
    return f"the account '{row['username']}' was {change} by {row.actor}" + (f" ({details})" if details else "")


def _join_token(row: _Row) -> str:
    approval = "approved at once" if row.details.get("auto_approve") else "to be approved"
    return f"{row.actor} made the join token {row['token_id']} for {row.count('uses', 'machine')}, {approval}"


def _enrolled(row: _Row) -> str:
    waits = ", and waits for approval" if row["admission"] == "pending" else ""
    return f"{row['name'] or row.worker} joined{row.after(' from ', 'address')}{row.after(' by token ', 'token_id')}{waits}"


def _draining(row: _Row) -> str:
    who = row["by"] or row.actor
    return f"{row.worker} takes nothing new: drained by {who}"


def _why_ended(row: _Row) -> str:
    """Return ": exit code 3" or another cause, or nothing."""
    reason = row["failure_reason"]
    if reason == "exit_code" or (not reason and row["outcome"] == "failed"):
        return row.after(": exit code ", "exit_code")
    detail = row["detail"]
    cause = reason.replace("_", " ") if reason != row["outcome"] else ""
    return "".join(f": {text}" for text in (cause, detail) if text)


def _ended(row: _Row) -> str:
    attempt = row.after("attempt ", "attempt") or "the task"
    outcome = row["outcome"] or "failed"
    verb = {"lost": "was lost", "rejected": "was handed back", "cancelled": "was cancelled"}.get(outcome, outcome)
    where = f" on {row.worker}" if row["attempt"] else ""
    return f"{attempt} {verb}{where}{_why_ended(row)}"


def _requeued(row: _Row) -> str:
    try:
        delay_s = float(row.details.get("retry_in_s") or 0)
    except (TypeError, ValueError):
        delay_s = 0.0
    when = f"; queued again, in {delay_s:.0f} s at the earliest" if delay_s >= 1 else "; queued again"
    return _ended(row) + when


def _late(row: _Row, what: str) -> str:
    return f"{row.worker} told an outcome of attempt {row['attempt']} {what}{row.after(': ', 'detail')}"


def _expired(row: _Row) -> str:
    kinds = [
        row.count(name, thing)
        for name, thing in (("outputs", "output"), ("uploads", "upload"), ("inputs", "input"), ("contents", "content"))
        if row[name] not in {"", "0"}
    ]
    size = f" ({row.count('bytes', 'byte')})" if row["bytes"] else ""
    return f"over their time and removed: {', '.join(kinds)}{size}"


def _times(row: _Row) -> str:
    """Return how often more, where one row stands for many."""
    return f", the last of {row['count']} more" if row["count"] else ""


def _rotation_finished(row: _Row) -> str:
    behind = row.after("; to enrol anew: ", "left_behind")
    return f"{row.actor} dropped the old certificate authority, {row['dropped']}{behind}"


def _exported(row: _Row) -> str:
    filters = row.details.get("filters")
    chosen = ", ".join(f"{name} {value}" for name, value in filters.items()) if isinstance(filters, dict) else ""
    return f"{row.actor} exported the audit as {row['format']}" + (f" ({chosen[:_LONGEST_QUOTE]})" if chosen else "")


_WORDS: Final[Mapping[str, Callable[[_Row], str]]] = {
    "account_changed": _account_changed,
    "audit_contradicted": lambda row: (
        f"{f'{row.worker} holds' if row.has_worker else 'the cluster itself kept'} a checkpoint that contradicts the audit"
        f"{row.after(': ', 'detail')}{row.after('; explained by the backup restored at row ', 'explained_by_row')}"
    ),
    "audit_exported": _exported,
    "audit_key_exported": lambda row: (
        f"{row.actor} took the key of the audit off the machine{row.after(', into the file ', 'file')}"
    ),
    "audit_pruned": lambda row: (
        f"{row.actor} removed {row.count('rows', 'old row')} of the audit{row.after(', up to row ', 'last_row')}"
    ),
    "ca_rotation_begun": lambda row: f"{row.actor} made a new certificate authority, {row['new']}, beside {row['old']}",
    "ca_rotation_finished": _rotation_finished,
    "certificate_refused": lambda row: f"{row.worker} got no new certificate{row.after(': ', 'reason')}",
    "certificate_renewed": lambda row: f"{row.worker} got a new certificate{row.after(', good until ', 'expires_at')}",
    "dispatcher_certificate_issued": lambda row: (
        f"the dispatcher got a new certificate{row.after(', good until ', 'expires_at')}"
    ),
    "database_restored": lambda row: (
        f"{row.actor} restored the backup '{row['backup']}'; the audit goes on behind its row {row['row'] or '0'}"
    ),
    "enrol_refused": lambda row: (
        f"{row['name'] or 'a machine'}{row.after(' at ', 'address')} may not join{row.after(': ', 'reason')}{_times(row)}"
    ),
    "file_deleted": lambda row: f"{row.actor} deleted the file '{row['name']}'",
    "file_uploaded": lambda row: (
        f"{row.actor} uploaded the file '{row['name']}' ({row.count('size_bytes', 'byte')})"
        + (", in place of another content" if row["replaced_sha256"] else "")
    ),
    "files_expired": _expired,
    "join_token_created": _join_token,
    "limit_reached": lambda row: (
        f"{row.actor}{row.after(' at ', 'address')} reached the limit of "
        f"{_LIMITED.get(row['limit'], row['limit'])}; this is told once a minute"
    ),
    "keys_rotated": lambda row: (
        f"{row.actor} changed the secret key" + (", and ended all sessions" if row.details.get("ends_sessions") else "")
    ),
    "logged_out": lambda row: f"{row.actor} signed out{row.after(' from ', 'address')}",
    "login_failed": _login_failed,
    "login_succeeded": _login,
    "outcome_refused": lambda row: _late(row, "that was refused"),
    "outcome_superseded": lambda row: _late(row, "too late: the attempt had been given up"),
    "permission_denied": lambda row: (
        f"{row.actor} was refused {row['method']} {row['path']}{row.after(' from ', 'address')}"
    ),
    "task_cancel_requested": lambda row: f"{row.actor} asked to cancel the running task",
    "task_cancelled": lambda row: f"{row.actor} cancelled the task before it ran",
    "task_finished": _ended,
    "task_requeued": _requeued,
    "task_retried": lambda row: f"{row.actor} queued the task again{row.after('; it was ', 'from')}",
    "task_started": lambda row: f"attempt {row['attempt']} started on {row.worker}",
    "task_submitted": lambda row: f"{row.actor} submitted the task",
    "token_refreshed": lambda row: f"{row.actor} renewed a token{row.after(' from ', 'address')}",
    "token_reused": lambda row: (
        f"a used token of {row.actor} came again{row.after(' from ', 'address')}; its sign-in was ended"
    ),
    "trust_confirmed": lambda row: (
        f"{row.worker} trusts {row.count('count', 'certificate authority', 'certificate authorities')}"
    ),
    "worker_approved": lambda row: f"{row.worker} was approved by {row.actor}",
    "worker_connected": lambda row: (
        f"{row.worker} connected{row.after(' from ', 'address')}{row.after(' over ', 'transport')}"
    ),
    "worker_disconnected": lambda row: f"{row.worker} disconnected{row.after(': ', 'detail')}",
    "worker_draining": _draining,
    "worker_enrolled": _enrolled,
    "worker_paused": lambda row: f"{row.worker} paused{row.after(': ', 'detail')}",
    "worker_refused": lambda row: (
        f"{row.worker}{row.after(' at ', 'address')} was refused{row.after(': ', 'detail') or row.after(': ', 'code')}"
        f"{_times(row)}"
    ),
    "worker_resumed": lambda row: f"{row.worker} takes tasks again: resumed by {row.actor}",
    "worker_revoked": lambda row: f"{row.worker} was revoked by {row.actor}{row.after(': ', 'reason')}",
    "worker_suspended": lambda row: f"{row.worker} was suspended by {row.actor}{row.after(': ', 'reason')}",
    "worker_unpaused": lambda row: f"{row.worker} takes tasks again",
}

EVENT_TYPES: Final = tuple(sorted(_WORDS))
"""Every type that the product writes."""
