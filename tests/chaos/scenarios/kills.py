"""Programs that die or are restarted at random moments under load."""

from __future__ import annotations

from tests.chaos.field import Field
from tests.chaos.load import Pace
from tests.chaos.scenarios import Form

SPARED_FROM_LOSSES = 3
"""A task that loses five workers fails, and should: a worker with one that far on is not killed by us."""
WORN_OUT_TASKS = (
    "SELECT count(*) FROM tasks JOIN workers ON workers.id = tasks.worker_id"
    " WHERE tasks.assigned_at IS NOT NULL AND tasks.losses >= ? AND workers.name = ?"
)


def dispatcher_kills(scene: Field, form: Form) -> None:
    """Kill -9 the dispatcher again and again, now and then while it starts."""
    names = ("ant", "bee", "cow")
    scene.begin(*names)
    load = scene.start_load(form.pick(Pace(350, 20), Pace(3000, 800)))
    while load.is_alive():
        scene.pause_for(scene.random.uniform(0.2, 3.0))
        assert scene.dispatcher is not None
        scene.kill(scene.dispatcher)
        while scene.random.random() < 0.3:
            early = scene.raise_dispatcher(wait=False)
            scene.pause_for(scene.random.uniform(0.0, 1.2))
            scene.kill(early)
        scene.raise_dispatcher()


def worker_kills(scene: Field, form: Form) -> None:
    """Kill -9 workers; they come back with the state they had, at once or a little later."""
    names = ("ant", "bee", "cow", "dog")
    scene.begin(*names, slots=6)
    load = scene.start_load(form.pick(Pace(350, 25), Pace(3000, 700)))
    while load.is_alive():
        scene.pause_for(scene.random.uniform(0.3, form.pick(2.5, 4.0)))
        name = scene.random.choice(names)
        if scene.count(WORN_OUT_TASKS, SPARED_FROM_LOSSES, name):
            continue
        scene.kill(scene.workers[name])
        scene.pause_for(scene.random.choice((0.0, scene.random.uniform(0.0, 2.0))))
        scene.raise_worker(name)
        if scene.random.random() < 0.7:
            # Else the next kill may meet it before it has connected.
            scene.wait_connected(name)


def rolling(scene: Field, form: Form) -> None:
    """Restart everything in turn as an operator does: nothing is lost, nothing runs twice, nobody is charged."""
    names = ("ant", "bee", "cow")
    scene.begin(*names)
    load = scene.start_load(form.pick(Pace(300, 18), Pace(1200, 75)))
    while load.is_alive():
        assert scene.dispatcher is not None
        scene.stop(scene.dispatcher)
        scene.raise_dispatcher()
        scene.counts.restarts += 1
        scene.wait_connected(*names)
        for name in names:
            scene.stop(scene.workers[name])
            scene.raise_worker(name)
            scene.counts.restarts += 1
            scene.wait_connected(name)
    load.finish()
    scene.wait_all_ended()
    [(losses, failures)] = scene.rows("SELECT sum(losses), sum(failures) FROM tasks")
    scene.expect((losses, failures) == (0, 0), f"{losses} losses and {failures} failures were charged to tasks")
    lines = scene.ledger.lines.read_text().split()
    scene.expect(len(lines) == len(set(lines)), f"{len(lines) - len(set(lines))} commands ran again")
