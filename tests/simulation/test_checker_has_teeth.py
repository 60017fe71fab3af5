"""The simulation finds the mistakes it is there for: each is made on purpose, and a story must break."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dispatcher.core.pace import QUICK_S, Pace
from dispatcher.core.reactor import Reactor
from dispatcher.core.state import DispatcherState
from octaskly_wire.messages import AcknowledgeOutcome
from tests.simulation.__main__ import run_seed
from tests.simulation.dispatcher import SimDispatcher
from tests.simulation.store import SimStore
from worker_node.core import handing_back
from worker_node.core import reactor as worker_reactor

SEEDS = 300


def acknowledge_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Messages overtake the commit of what they speak of."""
    perform = SimDispatcher._perform

    def hasty(self, effects):
        for effect in effects:
            if isinstance(getattr(effect, "message", None), AcknowledgeOutcome):
                self._send(effect, frozenset())
        perform(self, effects)

    patch.setattr(SimDispatcher, "_perform", hasty)


def accept_any_attempt(patch: pytest.MonkeyPatch) -> None:
    """Whoever reports on a task with a live attempt is believed."""

    def find(self, attempt_id, worker_id):
        return self.attempts.get(attempt_id.rpartition(".")[0])

    patch.setattr(DispatcherState, "find_attempt", find)


def forget_live_attempts(patch: pytest.MonkeyPatch) -> None:
    """A restarted dispatcher does not know what runs."""
    patch.setattr(SimStore, "recover", lambda self: [])


def send_over_any_link(patch: pytest.MonkeyPatch) -> None:
    """An order decided before a reconnect goes out after it."""
    send = SimDispatcher._send

    def anywhere(self, effect, refused):
        connection = self._links.get(getattr(effect, "worker_id", ""))
        if connection is not None and hasattr(effect, "message") and effect.unless_refused not in refused:
            connection.to_worker(effect.message)
        else:
            send(self, effect, refused)

    patch.setattr(SimDispatcher, "_send", anywhere)


def count_own_standstill(patch: pytest.MonkeyPatch) -> None:
    """A dispatcher that was frozen calls its workers silent."""
    tick = Reactor.on_tick

    def impatient(self, now):
        self._ticked_at = now
        return tick(self, now)

    patch.setattr(Reactor, "on_tick", impatient)


def forget_outcomes(patch: pytest.MonkeyPatch) -> None:
    """A worker drops what is not acknowledged when its link ends."""
    on_link_lost = worker_reactor.on_link_lost

    def careless(state):
        effects = on_link_lost(state)
        state.finished.clear()
        return effects

    patch.setattr(worker_reactor, "on_link_lost", careless)


def give_up_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Backoffs end without waking anybody, and nobody looks at the queue unasked."""
    patch.setattr(Reactor, "on_tick", lambda self, now: [])


def wait_for_ever(patch: pytest.MonkeyPatch) -> None:
    """A worker keeps what waits for a slot, however long."""
    patch.setattr(handing_back, "on_patience_over", lambda state, now: [])


def give_ahead_without_end(patch: pytest.MonkeyPatch) -> None:
    """A quick worker is given more than it has room for."""
    patch.setattr(Pace, "ahead", lambda self, slots: 100 if self.mean_s < QUICK_S else 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake",
    [
        acknowledge_before_commit,
        accept_any_attempt,
        forget_live_attempts,
        send_over_any_link,
        count_own_standstill,
        forget_outcomes,
        give_up_for_ever,
        wait_for_ever,
        give_ahead_without_end,
    ],
    ids=lambda mistake: mistake.__name__,
)
def test_a_mistake_breaks_a_story(mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch):
    """Within a few hundred seeds the promise that the mistake betrays is seen broken."""
    mistake(monkeypatch)
    assert any(run_seed(seed, trace_lines=0).failure for seed in range(SEEDS))
