"""A queue in memory that answers the engine's looks as the store does."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dispatcher.core.effects import ClaimTask, FetchFitting, FetchReady, ReadyTask
from tests.unit.dispatcher.engine import Engine


class Queue:
    """Holds what is queued; `serve` answers an engine until it asks no more."""

    def __init__(self, tasks: Iterable[ReadyTask]) -> None:
        self.tasks = sorted(tasks, key=lambda task: task.queue_order)
        self.looks = 0
        self.given: list[tuple[str, str]] = []
        """Task and worker of each claim, in order."""

    def serve(self, engine: Engine) -> None:
        """Carry out what the engine asks of its store, and leave nothing of it."""
        while self.serve_one_look(engine):
            pass

    def serve_one_look(self, engine: Engine) -> bool:
        """Carry out claims, and answer one look; return whether there was one."""
        effects, engine.effects = engine.effects, []
        looks = [effect for effect in effects if isinstance(effect, FetchReady | FetchFitting)]
        for claim in [effect for effect in effects if isinstance(effect, ClaimTask)]:
            self.given.append((claim.key.task_id, claim.worker_id))
            self.tasks = [task for task in self.tasks if task.task_id != claim.key.task_id]
        for look in looks:  # One at a time is the engine's own rule.
            self._answer(engine, look)
        return bool(looks)

    def _answer(self, engine: Engine, look: FetchReady | FetchFitting) -> None:
        self.looks += 1
        if isinstance(look, FetchReady):
            ready = [
                task
                for task_class in look.classes
                for task in [task for task in self.tasks if task.task_class == task_class][: look.limit]
            ]
            engine.do(engine.reactor.on_ready_fetched(look.classes, ready, look.limit))
            return
        most = look.ceiling.timeout_s or math.inf
        fitting = [
            task
            for task in self.tasks
            if task.task_class == look.task_class
            and task.timeout_s <= most
            and task.limits.excess_over(look.ceiling.limits) is None
        ]
        effects = engine.reactor.on_fitting_fetched(look.task_class, look.ceiling, fitting[: look.limit], look.limit)
        engine.do(effects)
