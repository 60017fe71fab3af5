"""What the engine writes about workers: links, load readings, refused peers. Called within its transaction.

What comes from many workers at a time is plain SQL, as in dispatch_records.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from django.db import connection

from accounts_app.plain_sql import db_time
from audit_app.trail import AuditEvent
from dispatcher.ports import (
    MachineRefused,
    SuspendWorker,
    WorkerConnected,
    WorkerDisconnected,
    WorkerDrainStarted,
    WorkerPaused,
    WorkerRefused,
    WorkersSeen,
    WorkerTrusts,
)
from octaskly_wire.messages import Register, Vitals
from octaskly_wire.vocabulary import Admission
from tasks_app.measured import Measuring
from workers_app.certificates import note_certificate, note_trust
from workers_app.models import Worker

EngineRecord = (
    WorkerConnected
    | WorkerTrusts
    | WorkersSeen
    | WorkerDrainStarted
    | WorkerPaused
    | WorkerDisconnected
    | WorkerRefused
    | MachineRefused
    | SuspendWorker
)


def mark_all_disconnected() -> None:
    """Forget the links of a dispatcher that stopped."""
    Worker.objects.filter(is_connected=True).update(is_connected=False, has_begun_drain=False, pause_reason="")


def _caps(registration: Register) -> dict[str, int]:
    """Return the caps that there are, the time-out among them."""
    caps = {**msgspec.to_builtins(registration.max_limits), "timeout_s": registration.max_timeout_s}
    return {name: cap for name, cap in caps.items() if cap is not None}


def _write_connected(item: WorkerConnected, now: datetime) -> AuditEvent:
    registration = item.registration
    values = {
        "name": registration.name,
        "is_connected": True,
        "has_begun_drain": registration.is_draining,
        "pause_reason": "",
        "connected_at": db_time(now),
        "last_seen_at": db_time(now),
        "boot_id": item.boot_id,
        "address": item.address,
        "transport": item.transport,
        "software_version": item.software_version,
        "platform": registration.platform,
        "slots": registration.slots,
        "cpu_count": registration.cpu_count,
        "memory_total_bytes": registration.memory_total_bytes,
        "allows_network": registration.allows_network,
        "levels": json.dumps(msgspec.to_builtins(registration.levels)),
        "levels_unproven": json.dumps(msgspec.to_builtins(registration.unproven)),
        "max_limits": json.dumps(_caps(registration)),
    }
    if item.certificate_ca_digest:  # Else it cannot be told of which CA the certificate is.
        values["certificate_ca_digest"] = item.certificate_ca_digest
    changes = ", ".join(f"{column} = %s" for column in values)
    with connection.cursor() as cursor:
        statement = f"UPDATE workers SET {changes} WHERE id = %s"  # noqa: S608 - the columns above
        cursor.execute(statement, [*values.values(), item.worker_id])
    details = {"address": item.address, "transport": item.transport, "boot_id": item.boot_id}
    return AuditEvent("worker_connected", "engine", item.worker_id, "", details)


def _write_seen(vitals: Mapping[str, Vitals], now: datetime) -> None:
    at = db_time(now)
    rows = [(at, json.dumps(msgspec.to_builtins(reading)), worker_id) for worker_id, reading in vitals.items()]
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE workers SET last_seen_at = %s, vitals = %s WHERE id = %s", rows)


def _count(item: WorkerRefused | MachineRefused) -> dict[str, Any]:
    return {"count": item.count} if item.count > 1 else {}


def write(item: EngineRecord, now: datetime, measuring: Measuring) -> list[AuditEvent]:
    """Write one record, note what it measured, and return what the audit should say of it."""
    match item:
        case WorkerConnected():
            return [_write_connected(item, now)]
        case WorkerTrusts():
            note_certificate(item.worker_id, item.certificate_ca_digest)
            changed = note_trust(item.worker_id, item.ca_digests)
            return [changed] if changed else []
        case WorkersSeen():
            _write_seen(item.vitals, now)
            trips = (reading.round_trip_seconds for reading in item.vitals.values())
            measuring.round_trip_seconds += [trip for trip in trips if trip is not None]
            return []
        case WorkerDrainStarted():
            Worker.objects.filter(id=item.worker_id).update(has_begun_drain=True)
            return [AuditEvent("worker_draining", "engine", item.worker_id, "", {"by": "the worker itself"})]
        case WorkerPaused():
            Worker.objects.filter(id=item.worker_id).update(pause_reason=item.detail)
            event_type = "worker_paused" if item.detail else "worker_unpaused"
            return [AuditEvent(event_type, "engine", item.worker_id, "", {"detail": item.detail})]
        case SuspendWorker():
            approved = Worker.objects.filter(id=item.worker_id, admission=Admission.APPROVED.value)
            if not approved.update(admission=Admission.SUSPENDED.value, admission_reason=item.reason[:255]):
                return []
            details = {"from": Admission.APPROVED.value, "reason": item.reason}
            return [AuditEvent("worker_suspended", "engine", item.worker_id, "", details)]
        case WorkerDisconnected():
            Worker.objects.filter(id=item.worker_id).update(is_connected=False, has_begun_drain=False, pause_reason="")
            return [AuditEvent("worker_disconnected", "engine", item.worker_id, "", {"detail": item.detail})]
        case WorkerRefused():
            refused = {"address": item.address, "code": item.code.value, "detail": item.detail}
            return [AuditEvent("worker_refused", "engine", item.worker_id, "", refused | _count(item))]
        case MachineRefused():
            who = {"token_id": item.token_id, "name": item.name, "address": item.address, "reason": item.detail}
            return [AuditEvent("enrol_refused", "engine", details=who | _count(item))]
