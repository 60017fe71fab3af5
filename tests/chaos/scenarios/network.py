"""Workers at the other end of a cable that is pulled out, or that loses and delays what goes through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.chaos.cable import Cable, cable_of_any_quality
from tests.chaos.field import Field
from tests.chaos.load import Pace
from tests.chaos.scenarios import DEFAULT_LEASES, Form, Skipped
from tests.support.netns import Cabled, NamespacesUnavailable, machine_on_a_cable

NEAR, FAR = "near", ("far-1", "far-2")
LOSS = 0.3
DELAY_S = 0.5
DEAF_S = 40.0
"""More than the lease, less than lease and grace."""


def leases(form: Form) -> Mapping[str, str]:
    """Return the default leases, or in the short form a tenth of them."""
    tenth = {"OCTASKLY_HEARTBEAT_S": "0.5", "OCTASKLY_LEASE_S": "3", "OCTASKLY_RECONNECT_GRACE_S": "6"}
    return form.pick(tenth, DEFAULT_LEASES)


@contextmanager
def cabled(scene: Field) -> Iterator[None]:
    """Lay a cable from this machine to another."""
    try:
        with machine_on_a_cable() as scene.cable:
            yield
    except NamespacesUnavailable as error:
        raise Skipped(str(error)) from error


def network(scene: Field, form: Form) -> None:
    """Cut the cable for less than the lease, for more than it, and for more than lease and grace."""
    cabled: Cabled = scene.cable
    _begin_far(scene)
    scene.add_worker(NEAR, slots=6)
    scene.wait_connected(NEAR)
    scale = form.pick(0.1, 1.0)
    for _ in range(form.pick(2, 3)):
        _cut(scene, cabled, 5 * scale, scale, expects_losses=False)
    _cut(scene, cabled, 40 * scale, scale, expects_losses=False)
    _cut(scene, cabled, 120 * scale, scale, expects_losses=True)


def _begin_far(scene: Field) -> None:
    scene.bind = "0.0.0.0"
    flags = ("--dispatcher-addr", f"{scene.cable.here}:{scene.port}")
    scene.begin(*FAR, slots=6, machine=scene.cable.machine, flags=flags)


def _cut(scene: Field, cabled: Cabled, cut_s: float, scale: float, *, expects_losses: bool) -> None:
    lost, late = scene.lost(), scene.superseded()
    load = scene.start_load(Pace(20, cut_s))
    sleeps = [scene.random.uniform(0.3, 0.6) * cut_s + 0.3 for _ in range(12)]
    sleeps += [scene.random.uniform(1.0, 1.2) * cut_s + 0.3 for _ in range(6)]
    scene.random.shuffle(sleeps)
    scene.client().submit([scene.ledger.new_task(after_s=sleep_s) for sleep_s in sleeps])
    scene.wait(lambda: scene.live_on(*FAR) >= 8, "commands run at the far end")
    scene.tell(f"the cable is cut for {cut_s:g} s")
    cabled.set_up(False)
    scene.pause_for(cut_s)
    cabled.set_up(True)
    scene.tell("the cable is whole")
    scene.counts.pauses += 1
    scene.wait_connected(*FAR, timeout_s=60)
    load.finish()
    scene.wait_all_ended(180 * max(scale, 0.3))
    gone = scene.lost() - lost
    if expects_losses:
        scene.expect(gone > 0, f"a cut of {cut_s:g} s cost no attempt: it was no cut")
        scene.wait(lambda: scene.superseded() > late, "late outcomes of the far end are kept aside")
    else:
        # An order that was on its way when the cable was cut is given again: its command never ran.
        scene.expect(gone == 0, f"a cut of {cut_s:g} s cost {gone} attempts")
        lines = scene.ledger.lines.read_text().split()
        scene.expect(len(lines) == len(set(lines)), f"commands ran again after a cut of {cut_s:g} s")
    scene.notes.append(f"cut of {cut_s:g} s: {gone} attempts lost, {scene.superseded() - late} late outcomes")


def bad_cable(scene: Field, form: Form) -> None:
    """Lose three packets of ten and delay the rest by half a second: slower, and nothing else."""
    cable: Cable = scene.cable
    _begin_far(scene)
    cable.set_quality(loss=LOSS, delay_s=DELAY_S)
    load = scene.start_load(form.pick(Pace(60, 10), Pace(300, 60)))
    load.finish()
    scene.wait_all_ended(form.pick(120, 240))
    cable.set_quality(loss=0.0, delay_s=0.0)
    scene.wait_connected(*FAR, timeout_s=60)
    scene.notes.append(f"{cable.dropped} of {cable.carried} packets were lost")
    scene.expect(cable.dropped > 0, "the cable lost no packet")


def one_way_cable(scene: Field, form: Form) -> None:
    """Lose all that the far end says, for more than the lease, while it hears everything: nothing runs again."""
    cable: Cable = scene.cable
    _begin_far(scene)
    sleeps = [scene.random.uniform(0.2, 1.3) * DEAF_S for _ in range(12)]
    scene.client().submit([scene.ledger.new_task(after_s=sleep_s) for sleep_s in sleeps])
    scene.wait(lambda: scene.live_on(*FAR) == len(sleeps), "all commands run at the far end")
    scene.tell(f"the far end is not heard for {DEAF_S:g} s")
    cable.carry_only_from_here(True)
    scene.counts.pauses += 1
    scene.pause_for(DEAF_S)
    connected = scene.count("SELECT count(*) FROM workers WHERE is_connected")
    cable.carry_only_from_here(False)
    scene.expect(connected == 0, f"{connected} workers counted as connected past their lease")
    scene.wait_connected(*FAR, timeout_s=60)
    scene.wait_all_ended()
    scene.expect(scene.given_up() == 0, f"{scene.given_up()} attempts were given up")


@contextmanager
def badly_cabled(scene: Field) -> Iterator[None]:
    """Lay a cable that can be bad."""
    try:
        with cable_of_any_quality(scene.seed) as scene.cable:
            yield
    except NamespacesUnavailable as error:
        raise Skipped(str(error)) from error
