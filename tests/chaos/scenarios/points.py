"""Programs that die exactly at the labelled points of `crashing.py`, one point after the other."""

from __future__ import annotations

from tests.chaos.crashing import DISPATCHER_POINTS, SPOOL_POINTS, WORKER_POINTS
from tests.chaos.field import Field
from tests.chaos.load import Pace
from tests.chaos.scenarios import Form

HITS = (1, 2, 5)
MANY_HITS = (1, 2, 5, 11, 17)
SLOTS = 8
UNTIL_IT_DIES = Pace(750, 30.0, batch=3, longest_sleep_s=0.4)
"""However many groups the hits take: what comes together is committed together."""
VICTIM, WITNESS = "victim", "witness"


def labelled_points(scene: Field, form: Form) -> None:
    """Kill the dispatcher or a worker at each point, at the first, second, fifth ... hit, and start it again."""
    scene.begin(VICTIM, WITNESS, slots=SLOTS)
    for position, (label, play) in enumerate(_plays()):
        # In the short form each point is hit once, each at another count.
        hits = form.pick((HITS[position % len(HITS)],), MANY_HITS if play is not _at_spool else HITS)
        for hit in hits:
            play(scene, f"{label}:{hit}")
            scene.wait_all_ended()


def _plays():
    yield from ((label, _in_dispatcher) for label in DISPATCHER_POINTS)
    yield from ((label, _in_worker) for label in WORKER_POINTS)
    yield from ((label, _at_spool) for label in SPOOL_POINTS)


def _in_dispatcher(scene: Field, crash_at: str) -> None:
    assert scene.dispatcher is not None
    scene.kill(scene.dispatcher)
    # Outcomes that the last one has not acknowledged come at once: it may die before it answers anybody.
    doomed = scene.raise_dispatcher(crash_at, wait=False)
    load = scene.start_load(UNTIL_IT_DIES)
    scene.wait_killed(doomed, crash_at)
    scene.raise_dispatcher()
    load.stop()
    load.finish()


def _in_worker(scene: Field, crash_at: str) -> None:
    scene.stop(scene.workers[VICTIM])
    doomed = scene.raise_worker(VICTIM, crash_at)
    scene.wait_connected(VICTIM, WITNESS)
    load = scene.start_load(UNTIL_IT_DIES)
    scene.wait_killed(doomed, crash_at)
    scene.raise_worker(VICTIM)
    load.stop()
    load.finish()
    scene.wait_connected(VICTIM, WITNESS)


def _at_spool(scene: Field, crash_at: str) -> None:
    """Outcomes are spooled when nobody acknowledges them: commands end while there is no dispatcher."""
    assert scene.dispatcher is not None
    scene.stop(scene.workers[VICTIM])
    doomed = scene.raise_worker(VICTIM, crash_at)
    scene.wait_connected(VICTIM, WITNESS)
    scene.client().submit([scene.ledger.new_task(after_s=scene.random.uniform(1.0, 1.5)) for _ in range(2 * SLOTS)])
    scene.wait(lambda: scene.live_on(VICTIM) == SLOTS, f"{SLOTS} commands run on the victim")
    scene.kill(scene.dispatcher)
    scene.pause_for(2.0)
    scene.raise_dispatcher()
    scene.wait_killed(doomed, crash_at)
    scene.raise_worker(VICTIM)
    scene.wait_connected(VICTIM, WITNESS)
