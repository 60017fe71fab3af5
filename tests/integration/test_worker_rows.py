"""What the engine reads and writes of many workers at a time."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from dispatcher.ports import WorkerConnected, WorkersSeen
from octaskly_wire.messages import LevelProof, Limits, Register, UnprovenLevel, Vitals
from octaskly_wire.vocabulary import Admission, SandboxLevel
from tasks_app.blob_store import BlobStore
from tasks_app.dispatch_store import DispatchStore
from tasks_app.whitelist import MAX_IDS
from workers_app.models import Worker

pytestmark = pytest.mark.django_db

REGISTRATION = Register(
    name="pc-07",
    slots=4,
    levels=[LevelProof(SandboxLevel.BASIC, "linux-spawner", ["sees the host's files"])],
    allows_network=True,
    is_draining=True,
    platform="Linux x86_64",
    cpu_count=8,
    memory_total_bytes=8 << 30,
    max_limits=Limits(memory_mb=4096),
    max_timeout_s=3600,
    unproven=[UnprovenLevel(SandboxLevel.STRICT, "user namespaces are forbidden")],
)


@pytest.fixture
def store(tmp_path):
    """Return a store."""
    return DispatchStore(BlobStore(tmp_path / "blobs", max_bytes=1 << 30, reserve_bytes=0))


def add_workers(count: int) -> list[str]:
    """Put approved workers on the whitelist; return their ids."""
    ids = [f"w{place}" for place in range(count)]
    now = datetime.now(UTC)
    Worker.objects.bulk_create(
        Worker(id=key, public_key_sha256=key, admission="approved", created_at=now, trusted_ca_digests=["ca"])
        for key in ids
    )
    return ids


def test_an_entry_is_told_when_it_is_new_or_has_changed(store):
    """What was told once is not told again; whoever asks for a worker hears of it whatever was told."""
    add_workers(3)
    assert {entry.worker_id for entry in store.wishes().whitelist} == {"w0", "w1", "w2"}
    assert store.wishes().whitelist == []
    Worker.objects.filter(id="w1").update(admission="revoked", admission_reason="stolen")
    Worker.objects.filter(id="w2").update(is_draining=True)
    changed = {entry.worker_id: entry for entry in store.wishes().whitelist}
    assert (changed.keys(), changed["w1"].admission, changed["w1"].detail) == (
        {"w1", "w2"},
        Admission.REVOKED,
        "stolen",
    )
    assert changed["w2"].is_draining
    [entry] = store.whitelist_entries(["w0", "nobody"])
    assert (entry.worker_id, entry.admission, entry.is_draining) == ("w0", Admission.APPROVED, False)
    assert entry.trusted_ca_digests == ("ca",)


def test_any_number_of_workers_can_be_asked_for(store):
    """More of them than one statement takes are asked for in several."""
    ids = add_workers(MAX_IDS + 1)
    assert sorted(entry.worker_id for entry in store.whitelist_entries(ids)) == sorted(ids)
    assert store.whitelist_entries([]) == []


def test_a_registration_stands_in_the_row_as_it_came(store):
    """All of it; and the CA of the certificate stays where the present one cannot be told."""
    [worker_id] = add_workers(1)
    store.commit([WorkerConnected(worker_id, "b1", "10.0.0.7", "tcp", "1.2", REGISTRATION, "5e")])
    store.commit([WorkerConnected(worker_id, "b2", "10.0.0.8", "quic", "1.3", REGISTRATION, "")])
    worker = Worker.objects.get(id=worker_id)
    assert (worker.name, worker.boot_id, worker.address, worker.transport) == ("pc-07", "b2", "10.0.0.8", "quic")
    assert (worker.is_connected, worker.has_begun_drain, worker.allows_network) == (True, True, True)
    assert worker.connected_at == worker.last_seen_at
    assert worker.levels == msgspec.to_builtins(REGISTRATION.levels)
    assert worker.levels_unproven == msgspec.to_builtins(REGISTRATION.unproven)
    assert worker.max_limits == {"memory_mb": 4096, "timeout_s": 3600}
    assert (worker.software_version, worker.certificate_ca_digest) == ("1.3", "5e")


def test_the_newest_vitals_of_all_are_written_at_once(store):
    """Each row gets its own; a worker whose row is gone is passed over."""
    ids = add_workers(2)
    vitals = {key: Vitals(float(place), 2, 1, 1, 0.5) for place, key in enumerate([*ids, "gone"])}
    store.commit([WorkersSeen(vitals)])
    rows = dict(Worker.objects.values_list("id", "vitals"))
    assert {key: row["cpu_percent"] for key, row in rows.items()} == {"w0": 0.0, "w1": 1.0}
    assert all(Worker.objects.values_list("last_seen_at", flat=True))
