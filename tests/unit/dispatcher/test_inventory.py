"""The table of what a connecting worker holds against what the dispatcher believes: every pair is decided."""

from __future__ import annotations

import pytest

from dispatcher.core.effects import AttemptKey, RecordGivenUp, RecordStarted
from dispatcher.core.events import RecoveredAttempt
from octaskly_wire.messages import CancelAttempt
from octaskly_wire.vocabulary import FailureReason
from tests.unit.dispatcher.engine import FINISHED, RUNNING, Engine, make_task

KEY = AttemptKey("t1", 1)
BELIEFS = ("unknown", "given up", "assigned", "running", "cancelling")
HELD = (None, RUNNING, FINISHED)

ADOPT, DISCARD, CANCEL, AWAIT, NOTHING = "adopt", "discard", "cancel", "await its outcome", "nothing"
GIVE_BACK, LOSE, END_CANCELLED = "give back", "lose", "end as cancelled"

SAME_BOOT = {
    ("unknown", None): NOTHING, ("unknown", RUNNING): DISCARD, ("unknown", FINISHED): AWAIT,
    ("given up", None): NOTHING, ("given up", RUNNING): DISCARD, ("given up", FINISHED): AWAIT,
    ("assigned", None): GIVE_BACK, ("assigned", RUNNING): ADOPT, ("assigned", FINISHED): AWAIT,
    ("running", None): LOSE, ("running", RUNNING): ADOPT, ("running", FINISHED): AWAIT,
    ("cancelling", None): END_CANCELLED, ("cancelling", RUNNING): CANCEL, ("cancelling", FINISHED): AWAIT,
}  # fmt: skip
NEW_BOOT = SAME_BOOT | {("assigned", None): LOSE}
"""A process that died may have run what it was given, so a missing attempt is a loss, started or not.

What it still holds after a restart comes out of its spool; a running attempt cannot, and is taken as told.
"""


def believe(engine: Engine, belief: str, boot_id: str) -> None:
    """Bring the engine to this belief about attempt t1.1 of worker w1, seen last at this boot."""
    if belief in {"assigned", "running", "cancelling"}:
        recovered = RecoveredAttempt(make_task(), 1, "w1", boot_id, belief != "assigned", belief == "cancelling")
        engine.do(engine.reactor.on_recovered([recovered], engine.now))
    elif belief == "given up":
        engine.do(engine.reactor.on_recovered([RecoveredAttempt(make_task(), 1, "w1", boot_id, True, False)], 0.0))
        engine.tick(200)
        engine.effects.clear()


def decision(engine: Engine) -> str:
    """Return what the engine's effects say about the attempt."""
    given_up = [effect for effect in engine.effects if isinstance(effect, RecordGivenUp)]
    orders = [getattr(effect, "message", None) for effect in engine.effects]
    cancels = [message for message in orders if isinstance(message, CancelAttempt)]
    is_live = KEY.task_id in engine.reactor.state.attempts
    assert len(given_up) + len(cancels) <= 1
    if given_up:
        assert not is_live
        if given_up[0].failure_reason is FailureReason.CANCELLED:
            return END_CANCELLED
        return LOSE if given_up[0].is_loss else GIVE_BACK
    if cancels:
        assert is_live != cancels[0].discard
        return DISCARD if cancels[0].discard else CANCEL
    return "live" if is_live else "not live"


@pytest.mark.parametrize("boot_id", ["b1", "b2"])
@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("belief", BELIEFS)
def test_every_pair_is_decided(belief, held, boot_id):
    """Each pair of belief and inventory leads to exactly the decision of the table."""
    table = SAME_BOOT if boot_id == "b1" else NEW_BOOT
    expected = table[belief, held]
    engine = Engine()
    believe(engine, belief, "b1")
    engine.join(boot_id=boot_id, held={KEY.attempt_id: held} if held else {})
    decided = decision(engine)
    if decided == "live":
        assert expected in {ADOPT, AWAIT}
        started = [effect for effect in engine.effects if isinstance(effect, RecordStarted)]
        assert bool(started) == (belief == "assigned" and held is RUNNING)
    elif decided == "not live":
        assert expected in {NOTHING, AWAIT}
    else:
        assert decided == expected


def test_the_table_is_whole():
    """No pair is left out."""
    assert set(SAME_BOOT) == set(NEW_BOOT) == {(belief, held) for belief in BELIEFS for held in HELD}
