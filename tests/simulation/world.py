"""Virtual time, processes that die and freeze, and a network that delays, cuts and partitions. All from one seed."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any


class InvariantBroken(AssertionError):
    """A promise does not hold; the trace says how it came to that."""


class World:
    """The clock, the events to come, and the dice."""

    def __init__(self, seed: int, trace_lines: int = 4000) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.trace: deque[str] | None = deque(maxlen=trace_lines) if trace_lines else None
        self.after_step: Callable[[], None] = lambda: None
        self.acting: Process | None = None
        """Whose step this is; None when people or the network did something, which shows at the next step of one."""
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Let something happen later; what is due at the same moment happens in the order of the calls."""
        self._sequence += 1
        heapq.heappush(self._events, (self.now + delay_s, self._sequence, action, arguments))

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:10.3f}  {text}")

    def note_records(self, records: list[Any], refused: frozenset[Any]) -> None:
        """Add what was committed to the trace."""
        if self.trace is None:
            return
        for item in records:
            key = getattr(item, "key", None)
            attempt_id = key.attempt_id if key else ""
            report = getattr(item, "report", None)
            extra = f" {report.failure_reason or 'done'}" if report else f" {getattr(item, 'detail', '')}".rstrip()
            fate = " (refused)" if key in refused else " (charged)" if getattr(item, "is_loss", False) else ""
            self.note(f"committed {type(item).__name__} {attempt_id} {item.worker_id}{extra}{fate}")

    def run(self, until_s: float, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Let events happen until the predicate holds or the time is over; return whether it held."""
        while self._events and self._events[0][0] <= until_s:
            self.now, _, action, arguments = heapq.heappop(self._events)
            self.acting = None
            action(*arguments)
            self.steps += 1
            self.after_step()
            if is_over():
                return True
        self.now = max(self.now, until_s)
        return is_over()


class Process(ABC):
    """Something that runs, freezes (SIGSTOP) and dies (kill -9). Its own clock starts anywhere."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = False
        self.life = 0
        self.frozen_until = 0.0
        self._clock_offset = 0.0

    @property
    def clock(self) -> float:
        """Return its monotonic time: comparable within one life only."""
        return self.world.now + self._clock_offset

    def begin_life(self) -> None:
        """Start, with a new clock."""
        self.is_alive = True
        self.life += 1
        self.frozen_until = 0.0
        self._clock_offset = self.world.random.uniform(0.0, 1e6)

    def end_life(self) -> None:
        """Die: nothing that was to happen in this life happens."""
        self.is_alive = False

    @abstractmethod
    def check_invariants(self) -> None:
        """Raise AssertionError when its state contradicts itself."""

    def freeze(self, seconds: float) -> None:
        """Stop until then; all that is due meanwhile happens at the end, in order."""
        self.frozen_until = max(self.frozen_until, self.world.now + seconds)

    def later(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Let something happen in this life."""
        self.world.after(delay_s, self._happen, self.life, action, arguments)

    def _happen(self, life: int, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if not self.is_alive or life != self.life:
            return
        if self.frozen_until > self.world.now + 1e-9:
            self.world.after(self.frozen_until - self.world.now, self._happen, life, action, arguments)
            return
        self.world.acting = self
        action(*arguments)


class Network:
    """Delays and partitions by worker."""

    def __init__(self, world: World, delay_s: float = 0.002, jitter_s: float = 0.01) -> None:
        self.world = world
        self.delay_s = delay_s
        self.jitter_s = jitter_s
        self._healed_at: dict[str, float] = {}

    def partition(self, worker_id: str, seconds: float) -> None:
        """Let nothing through between a worker and the dispatcher for so long."""
        self._healed_at[worker_id] = max(self._healed_at.get(worker_id, 0.0), self.world.now + seconds)

    def heal_all(self) -> None:
        """End all partitions."""
        self._healed_at.clear()

    def blocked_s(self, worker_id: str) -> float:
        """Return how much longer nothing gets through."""
        return max(0.0, self._healed_at.get(worker_id, 0.0) - self.world.now)

    def one_way_s(self) -> float:
        """Return the delay of one message."""
        return self.delay_s + self.jitter_s * self.world.random.random()


class Connection:
    """One connection: in order within each direction, not at all once it is cut."""

    def __init__(self, network: Network, worker: Process, dispatcher: Process, worker_id: str) -> None:
        self.network = network
        self.worker_id = worker_id
        self.link_id = 0
        self.is_cut = False
        self.on_worker_message: Callable[[Any], None] = lambda _: None
        self.on_dispatcher_message: Callable[[Any], None] = lambda _: None
        self.on_worker_end: Callable[[str], None] = lambda _: None
        self.on_dispatcher_end: Callable[[str], None] = lambda _: None
        self._up = _Direction(network, worker_id, dispatcher)
        self._down = _Direction(network, worker_id, worker)
        self._lives = (worker.life, dispatcher.life)
        self._ends = (worker, dispatcher)

    def to_dispatcher(self, message: Any) -> None:
        """Send from the worker."""
        if not self.is_cut:
            self._up.push(self, lambda: self.on_dispatcher_message(message))

    def to_worker(self, message: Any) -> None:
        """Send from the dispatcher."""
        if not self.is_cut:
            self._down.push(self, lambda: self.on_worker_message(message))

    def close_by_worker(self, reason: str) -> None:
        """Close; the other end notices after all that was sent before."""
        self._up.push(self, lambda: self.on_dispatcher_end(reason), ends=True)

    def close_by_dispatcher(self, reason: str) -> None:
        """Close; the other end notices after all that was sent before."""
        self._down.push(self, lambda: self.on_worker_end(reason), ends=True)

    def cut(self, reason: str) -> None:
        """Lose all that is on its way; each end notices when it notices, in up to two seconds."""
        if self.is_cut:
            return
        self.is_cut = True
        random = self.network.world.random
        worker, dispatcher = self._ends
        worker.later(random.uniform(0.0, 2.0), lambda: self.on_worker_end(reason))
        dispatcher.later(random.uniform(0.0, 2.0), lambda: self.on_dispatcher_end(reason))

    def concerns(self, receiver: Process) -> bool:
        """Return whether the receiver is still the process that this connection was made with."""
        return receiver.is_alive and receiver.life == self._lives[0 if receiver is self._ends[0] else 1]


class _Direction:
    """Deliveries one way, in order."""

    def __init__(self, network: Network, worker_id: str, receiver: Process) -> None:
        self._network = network
        self._worker_id = worker_id
        self._receiver = receiver
        self._last_at = 0.0
        self._is_ended = False

    def push(self, connection: Connection, deliver: Callable[[], None], *, ends: bool = False) -> None:
        world = self._network.world
        if self._is_ended:
            return
        self._is_ended = ends
        at = max(self._last_at, world.now + self._network.one_way_s() + self._network.blocked_s(self._worker_id))
        self._last_at = at
        world.after(at - world.now, self._deliver, connection, deliver)

    def _deliver(self, connection: Connection, deliver: Callable[[], None]) -> None:
        if connection.is_cut or not connection.concerns(self._receiver):
            return
        blocked_s = self._network.blocked_s(self._worker_id)
        if blocked_s > 0:
            # Those behind find the same wall and queue up in the same order.
            self._last_at = max(self._last_at, self._network.world.now + blocked_s)
            self._network.world.after(blocked_s, self._deliver, connection, deliver)
            return
        self._receiver.later(0.0, deliver)
