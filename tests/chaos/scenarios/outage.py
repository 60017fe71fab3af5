"""A dispatcher that is gone for half a minute while a hundred commands run."""

from __future__ import annotations

from tests.chaos.field import Field
from tests.chaos.scenarios import Form

OUTAGE_S = 30.0
NAMES = ("ant", "bee", "cow", "dog")
SLOTS = 25


def outage(scene: Field, form: Form) -> None:
    """Half of the commands end meanwhile, half after: every outcome is recorded and nothing runs again."""
    scene.begin(*NAMES, slots=SLOTS)
    count = len(NAMES) * SLOTS
    sleeps = [scene.random.uniform(10, 25) for _ in range(count // 2)]
    sleeps += [scene.random.uniform(48, 56) for _ in range(count - len(sleeps))]
    scene.client().submit([scene.ledger.new_task(after_s=sleep_s) for sleep_s in sleeps])
    scene.wait(lambda: scene.live_on(*NAMES) == count, f"{count} commands run")
    assert scene.dispatcher is not None
    scene.kill(scene.dispatcher)
    scene.pause_for(OUTAGE_S)
    spooled = scene.spooled()
    scene.expect(spooled == count // 2, f"{spooled} outcomes waited on disks, not {count // 2}")
    scene.raise_dispatcher()
    scene.wait_connected(*NAMES)
    running = scene.live_on(*NAMES)
    scene.expect(running >= count // 2, f"{running} commands were adopted of {count // 2} that still ran")
    scene.wait_all_ended()
    scene.expect(scene.given_up() == 0, f"{scene.given_up()} attempts were given up")
    again = len(scene.ledger.lines.read_text().split()) - count
    scene.expect(again == 0, f"{again} commands ran again")
    scene.notes.append(f"{spooled} outcomes came out of the workers' spools, {running} commands were taken over")
