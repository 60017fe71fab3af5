"""What people do to workers: each function is one transaction and one audit entry. REST and admin call these."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from django.db import transaction

from audit_app.trail import AuditEvent, actor_name, record
from octaskly_wire.vocabulary import Admission
from workers_app import signals
from workers_app.authorities import trusted_certificates
from workers_app.certificates import RenewalRefused, issue_leaf, renew
from workers_app.cluster import ClusterIdentity, WrongSecretKey, ensure_cluster, record_address
from workers_app.enrolment import EnrolledWorker, EnrolmentRefused, create_join_token, enrol
from workers_app.join_line import join_line
from workers_app.models import Worker
from workers_app.rotation import settle as settle_rotation

__all__ = [
    "ClusterIdentity",
    "EnrolledWorker",
    "EnrolmentRefused",
    "RenewalRefused",
    "StepNotAllowed",
    "WrongSecretKey",
    "approve",
    "create_join_token",
    "drain",
    "enrol",
    "ensure_cluster",
    "issue_leaf",
    "join_line",
    "record_address",
    "renew",
    "resume",
    "revoke",
    "settle_rotation",
    "suspend",
    "trusted_certificates",
]

ALLOWED_STEPS: Final[dict[Admission, frozenset[Admission]]] = {
    Admission.PENDING: frozenset({Admission.APPROVED, Admission.REVOKED}),
    Admission.APPROVED: frozenset({Admission.SUSPENDED, Admission.REVOKED}),
    Admission.SUSPENDED: frozenset({Admission.APPROVED, Admission.REVOKED}),
    Admission.REVOKED: frozenset(),
}
"""The whitelist's steps. Revoked is the end: the machine may enrol anew, with a new key."""


class StepNotAllowed(Exception):
    """The worker's present state does not lead there."""


def approve(worker: Worker, actor: Any) -> Worker:
    """Let the worker run tasks, at once."""
    return _step(worker.id, Admission.APPROVED, "worker_approved", actor, "")


def suspend(worker: Worker, actor: Any, reason: str = "") -> Worker:
    """Take all tasks from the worker and give it none until it is approved again."""
    return _step(worker.id, Admission.SUSPENDED, "worker_suspended", actor, reason)


def revoke(worker: Worker, actor: Any, reason: str = "") -> Worker:
    """Shut the worker's key out for ever; its link is closed and its tasks run elsewhere."""
    return _step(worker.id, Admission.REVOKED, "worker_revoked", actor, reason)


def drain(worker: Worker, actor: Any) -> Worker:
    """Give the worker nothing new; what runs there ends in peace."""
    return _set_draining(worker.id, actor, is_draining=True)


def resume(worker: Worker, actor: Any) -> Worker:
    """Give a drained worker tasks again."""
    return _set_draining(worker.id, actor, is_draining=False)


def _step(worker_id: str, target: Admission, event_type: str, actor: Any, reason: str) -> Worker:
    now = datetime.now(UTC)
    with transaction.atomic():
        worker = Worker.objects.get(id=worker_id)
        present = Admission(worker.admission)
        if target not in ALLOWED_STEPS[present]:
            raise StepNotAllowed(f"the worker is {present.value}; it cannot become {target.value}")
        worker.admission, worker.admission_reason = target.value, reason[:255]
        fields = ["admission", "admission_reason"]
        if target is Admission.APPROVED:
            worker.approved_at = now
            fields.append("approved_at")
        worker.save(update_fields=fields)
        details = {"from": present.value, **({"reason": reason} if reason else {})}
        _recorded(AuditEvent(event_type, actor_name(actor), worker_id, details=details), now)
    return worker


def _set_draining(worker_id: str, actor: Any, *, is_draining: bool) -> Worker:
    now = datetime.now(UTC)
    with transaction.atomic():
        worker = Worker.objects.get(id=worker_id)
        if worker.is_draining != is_draining:
            worker.is_draining = is_draining
            worker.save(update_fields=["is_draining"])
            event_type = "worker_draining" if is_draining else "worker_resumed"
            _recorded(AuditEvent(event_type, actor_name(actor), worker_id), now)
    return worker


def _recorded(event: AuditEvent, now: datetime) -> None:
    record(event, at=now)
    transaction.on_commit(partial(signals.worker_changed.send, sender=Worker, worker_id=event.worker_id))
