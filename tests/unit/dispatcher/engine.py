"""A reactor with builders around it; a test must take every effect it expects."""

from __future__ import annotations

import random
from typing import Any, TypeVar

from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import AttemptKey, ClaimTask, Effect, FetchFitting, FetchReady, ReadyTask, Send
from dispatcher.core.reactor import Reactor, WorkerJoined
from octaskly_wire.messages import HeldAttempt, Limits, OutcomeReport
from octaskly_wire.vocabulary import Admission, FailureReason, HeldPhase, SandboxLevel

E = TypeVar("E", bound=Effect)

BASIC = (SandboxLevel.BASIC, False)


def make_task(task_id: str = "t1", **changes: Any) -> ReadyTask:
    """Return a ready task; every field but the id has an ordinary value."""
    fields: dict[str, Any] = {
        "command": "true", "priority": 0, "timeout_s": 60, "sandbox": SandboxLevel.BASIC, "network": False,
        "env": {}, "limits": Limits(), "max_retries": 0, "attempt": 0, "failures": 0, "losses": 0,
    }  # fmt: skip
    return ReadyTask(task_id=task_id, **(fields | changes))


def make_report(reason: FailureReason | None = None, exit_code: int | None = 0, duration_ms: int = 5) -> OutcomeReport:
    """Return an outcome report without output."""
    return OutcomeReport(
        failure_reason=reason, exit_code=exit_code, duration_ms=duration_ms, sandbox=SandboxLevel.BASIC, backend="test"
    )


class Engine:
    """Feeds events to a reactor, checks its invariants after each, and keeps the effects to be taken."""

    def __init__(self, **config: Any) -> None:
        self.reactor = Reactor(EngineConfig(**config))
        self.now = 1000.0
        self.effects: list[Effect] = []
        self._links = 0
        self.do(self.reactor.on_recovered([], self.now))

    def do(self, effects: list[Effect]) -> None:
        """Keep the effects of one event."""
        self.reactor.state.check_invariants()
        self.effects += effects

    def take(self, kind: type[E]) -> E:
        """Take the first effect of this kind out of what is there."""
        for position, effect in enumerate(self.effects):
            if isinstance(effect, kind):
                del self.effects[position]
                return effect
        raise AssertionError(f"no {kind.__name__} among {self.effects}")

    def take_message(self, kind: type[Any]) -> Any:
        """Take the first message of this kind that is to be sent."""
        for position, effect in enumerate(self.effects):
            if isinstance(effect, Send) and isinstance(effect.message, kind):
                del self.effects[position]
                return effect.message
        raise AssertionError(f"no {kind.__name__} among {self.effects}")

    def assert_nothing_left(self) -> None:
        """Fail on any effect that the test did not expect."""
        assert self.effects == []

    def join(self, worker_id: str = "w1", boot_id: str = "b1", **changes: Any) -> int:
        """Let a worker join; return its link id."""
        self._links += 1
        held = tuple(
            HeldAttempt(attempt_id=attempt_id, phase=phase) for attempt_id, phase in changes.pop("held", {}).items()
        )
        fields: dict[str, Any] = {
            "slots": 1, "levels": frozenset({SandboxLevel.NONE, SandboxLevel.BASIC}),
            "allows_network": True, "memory_mb": 1000, "admission": Admission.APPROVED, "is_draining": False,
        }  # fmt: skip
        joined = WorkerJoined(
            worker_id=worker_id, link_id=self._links, boot_id=boot_id, held=held, **(fields | changes)
        )
        self.do(self.reactor.on_worker_joined(joined, self.now))
        return self._links

    def answer_fetch(self, *tasks: ReadyTask) -> None:
        """Answer the engine's look at the queue, however often it looks, with these tasks."""
        fetch = self.take(FetchReady)
        ready = [task for task in tasks if task.task_class in fetch.classes]
        self.do(self.reactor.on_ready_fetched(fetch.classes, ready, fetch.limit))

    def answer_search(self, *tasks: ReadyTask) -> FetchFitting:
        """Answer the engine's look behind a head with these tasks."""
        search = self.take(FetchFitting)
        self.do(self.reactor.on_fitting_fetched(search.task_class, search.ceiling, tasks, search.limit))
        return search

    def assign(self, task: ReadyTask, worker_id: str = "w1", **join: Any) -> AttemptKey:
        """Let a worker join and get this task; return the attempt."""
        self.join(worker_id, **join)
        self.answer_fetch(task)
        claim = self.take(ClaimTask)
        assert claim.worker_id == worker_id
        self.take(Send)
        return claim.key

    def start(self, key: AttemptKey, worker_id: str = "w1") -> None:
        """Let the attempt's command start."""
        self.do(self.reactor.on_attempt_started(worker_id, key.attempt_id))

    def finish(self, key: AttemptKey, report: OutcomeReport | None = None, worker_id: str = "w1") -> None:
        """Let the attempt end."""
        self.do(
            self.reactor.on_attempt_finished(worker_id, key.attempt_id, report or make_report(), b"", b"", self.now)
        )

    def finish_any(self, dice: random.Random) -> None:
        """Let one of the live attempts end, by chance."""
        attempt = dice.choice(sorted(self.reactor.state.attempts.values(), key=lambda live: live.key.task_id))
        self.finish(attempt.key, worker_id=attempt.worker_id)

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, with the clock event as often as it is due."""
        over_at = self.now + seconds
        while self.now < over_at:
            self.now = min(over_at, self.now + self.reactor.config.tick_s)
            self.do(self.reactor.on_tick(self.now))

    def stand_still(self, seconds: float) -> None:
        """Let time pass without the clock event, as when the dispatcher itself is stopped."""
        self.now += seconds
        self.do(self.reactor.on_tick(self.now))


RUNNING = HeldPhase.RUNNING
FINISHED = HeldPhase.FINISHED
