"""Programs that stand still for longer than their leases, and go on as if nothing had been."""

from __future__ import annotations

import signal

from tests.chaos.field import Field
from tests.chaos.load import Pace
from tests.chaos.scenarios import Form

FROZEN, AWAKE = "frozen", "awake"
PAST_LEASE_AND_GRACE_S = 8.0


def pauses(scene: Field, form: Form) -> None:
    """SIGSTOP a worker until its tasks have run elsewhere, then the dispatcher; SIGCONT each."""
    scene.begin(FROZEN, AWAKE, slots=6)
    for _ in range(form.pick(2, 8)):
        _freeze_worker(scene)
    for _ in range(form.pick(1, 5)):
        _freeze_dispatcher(scene)


def _freeze_worker(scene: Field) -> None:
    late = scene.superseded()
    lost = scene.lost()
    load = scene.start_load(Pace(40, 6))
    scene.client().submit([scene.ledger.new_task(after_s=scene.random.uniform(1.5, 2.5)) for _ in range(10)])
    scene.wait(lambda: scene.live_on(FROZEN) >= 3, "commands run on the worker that will freeze")
    worker = scene.workers[FROZEN]
    scene.signal(worker, signal.SIGSTOP)
    scene.wait(lambda: scene.lost() > lost, "its attempts are given up")
    load.finish()
    scene.wait_all_ended()
    scene.signal(worker, signal.SIGCONT)
    scene.wait_connected(FROZEN)
    scene.wait(lambda: scene.superseded() > late, "its late outcomes are kept aside")


def _freeze_dispatcher(scene: Field) -> None:
    lost = scene.lost()
    load = scene.start_load(Pace(100, 12))
    scene.pause_for(2.0)
    assert scene.dispatcher is not None
    scene.signal(scene.dispatcher, signal.SIGSTOP)
    scene.pause_for(PAST_LEASE_AND_GRACE_S)
    scene.signal(scene.dispatcher, signal.SIGCONT)
    load.finish()
    scene.wait_all_ended()
    scene.expect(scene.lost() == lost, f"{scene.lost() - lost} attempts were lost while the dispatcher stood still")
