"""A worker on QUIC whose machine gets another address stays connected."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.migrated_database import lay_database
from tests.support.netns import Cabled, NamespacesUnavailable, ip, machine_on_a_cable
from tests.support.wait import wait_until

pytestmark = pytest.mark.quic

OUTPUT_BYTES = 3_000_000
"""More than what goes over the control link: the rest opens a stream after the move."""


@pytest.fixture
def far() -> Iterator[Cabled]:
    """A machine on a cable to this one, or a skip that says why not."""
    cable = machine_on_a_cable()
    try:
        cabled = cable.__enter__()
    except NamespacesUnavailable as error:
        pytest.skip(str(error))
    yield cabled
    cable.__exit__(None, None, None)


def test_a_task_goes_on_while_its_machine_changes_its_address(
    new_cluster: Callable[..., Cluster], far: Cabled, open_folder: Path
) -> None:
    """One connection before and after, one attempt, and what it wrote arrives from the new address."""
    cluster = new_cluster()
    lay_database(cluster.db_path)
    cluster.start_dispatcher("--bind", "0.0.0.0")
    address = ("--dispatcher-addr", f"{far.here}:{cluster.port}")
    floor = ("--min-sandbox", "basic")
    cluster.start_worker("nomad", *address, *floor, "--transport", "quic", inside=far.machine.command())
    cluster.wait_connected("nomad")
    gate = open_folder / "moved"
    wait = f"while [ ! -e {shlex.quote(str(gate))} ]; do sleep 0.05; done"
    task_id = cluster.api.submit(f"{wait}; head -c {OUTPUT_BYTES} /dev/zero", sandbox="basic")
    cluster.wait_status(task_id, "running")

    inside = ("-n", far.machine.namespace, "addr")
    ip(*inside, "del", f"{far.machine.address}/24", "dev", far.machine.namespace)
    new_address = far.machine.address.rsplit(".", 1)[0] + ".77"
    ip(*inside, "add", f"{new_address}/24", "dev", far.machine.namespace)
    moved_at = datetime.now(UTC)
    wait_until(
        lambda: datetime.fromisoformat(cluster.api.worker_named("nomad")["last_seen_at"]) > moved_at,
        "it is heard from the new address",
        describe=cluster.describe,
    )
    gate.touch()

    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["attempt"]) == ("completed", 1)
    assert len(cluster.api.http.get(f"/api/v1/tasks/{task_id}/stdout").content) == OUTPUT_BYTES
    connected = cluster.rows("SELECT count(*) FROM audit_log WHERE event_type = 'worker_connected'")
    assert connected == [(1,)], cluster.describe()
    assert "The link ended" not in cluster.workers["nomad"].stderr
