"""The worker of the simulation: the real core in a shell whose commands only take time, and whose spool is a dict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from octaskly_wire.messages import (
    NO_LIMITS,
    AcknowledgeOutcome,
    AdmissionChanged,
    AssignAttempt,
    CancelAttempt,
    Drain,
    HeartbeatAck,
    LevelProof,
    Limits,
    OutcomeRefused,
    OutcomeReport,
    Refused,
    Resume,
    Vitals,
    Welcome,
)
from octaskly_wire.vocabulary import FailureReason, RejectionReason, SandboxLevel
from tests.simulation.dispatcher import SimDispatcher
from tests.simulation.world import Connection, InvariantBroken, Network, Process, World
from worker_node.core import handing_back, reactor, spooling
from worker_node.core.backoff import reconnect_delay_s
from worker_node.core.effects import (
    CloseLink,
    Effect,
    ForgetOutcome,
    LeaveForGood,
    Send,
    SendOutcome,
    SpoolOutcome,
    StartCommand,
    StopCommand,
)
from worker_node.core.outcome import Outcome, never_ran
from worker_node.core.state import Offer, WorkerState

VITALS = Vitals(1.0, 1 << 33, 1 << 32, 1 << 40, 0.5)
SPOOL_S = 0.005
SPOOL_POLL_S = 0.05
DIAL_TIMEOUT_S = 10.0
SLACK_S = 0.01


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a task's command does; a poison command takes its worker down with it."""

    duration_s: float = 1.0
    exit_code: int = 0
    is_poison: bool = False


class Observer(Protocol):
    """Who hears what really happens on the workers."""

    def on_command_started(self, worker: SimWorker, attempt_id: str) -> None:
        """Hear that a command begins."""

    def on_told_committed(self, worker: SimWorker, attempt_id: str, outcome: Outcome) -> None:
        """Hear that the worker forgets an outcome because the dispatcher says that it is on record."""

    def behaviour(self, assignment: AssignAttempt) -> Behaviour:
        """Return what this execution will do."""


class SimWorker(Process):
    """Dies and comes back with what its spool holds."""

    def __init__(
        self,
        world: World,
        worker_id: str,
        network: Network,
        dispatcher: SimDispatcher,
        observer: Observer,
        offer: Offer,
    ) -> None:
        super().__init__(world, worker_id)
        self.worker_id = worker_id
        self.offer = offer
        self.spool: dict[str, Outcome] = {}
        self.damaged: set[str] = set()
        self.is_disk_full = False
        self.fails_to_start = 0.0
        self.state = WorkerState(offer)
        self.connection: Connection | None = None
        self._network = network
        self._dispatcher = dispatcher
        self._observer = observer
        self._running: dict[str, int] = {}
        self._executions = 0
        self._failures = 0
        self._is_watching_spool = False
        self._is_patience_watched = False

    # --- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start with a new boot id, replay the spool, and dial."""
        self.begin_life()
        self.world.note(f"{self.name} starts, boot {self.life}")
        self.state = WorkerState(self.offer)
        self.connection = None
        self._running.clear()
        self._failures = 0
        self._is_watching_spool = False
        self._is_patience_watched = False
        lost = {
            attempt_id: never_ran(FailureReason.WORKER_LOST, SandboxLevel.NONE, "", "its spooled outcome was damaged")
            for attempt_id in self.damaged
        }
        self._perform(spooling.on_spool_loaded(self.state, {**self.spool, **lost}))
        self._check_disk()
        self.later(self.world.random.uniform(0.0, 0.5), self._dial)

    def kill(self) -> None:
        """Die: all commands die with it; an entry being written may turn out damaged."""
        self.end_life()
        self.world.note(f"{self.name} dies")
        for attempt_id in self.spool:
            if self.world.random.random() < 0.02:
                self.damaged.add(attempt_id)
        if self.connection:
            self.connection.cut("the worker died")
            self.connection = None

    def stop(self, patience_s: float) -> None:
        """Drain, then end; commands that take too long are killed and handed back."""
        self.world.note(f"{self.name} is asked to stop")
        self._perform(reactor.on_stop(self.state))
        self.later(patience_s, lambda: self._perform(reactor.on_drain_timeout(self.state)))
        self._end_when_idle(self.world.now + patience_s + 5.0)

    def _end_when_idle(self, deadline: float) -> None:
        if self.state.is_idle or self.world.now >= deadline:
            self.world.note(f"{self.name} ends")
            if self.connection:
                # What was sent before still arrives: the program flushes its link before it goes.
                self.connection.close_by_worker("the worker has stopped")
                self.connection = None
            self.end_life()
        else:
            self.later(0.1, self._end_when_idle, deadline)

    def check_invariants(self) -> None:
        """Check the core's state, and that nothing waits here for longer than it may while another could run it."""
        self.state.check_invariants()
        ends_at = self.state.patience_ends_at
        was_frozen = self.world.now <= self.frozen_until + SLACK_S
        if ends_at is not None and self.clock > ends_at + SLACK_S and not was_frozen:
            late_s = self.clock - ends_at
            raise InvariantBroken(f"{next(iter(self.state.waiting))} waits on {self.name}, {late_s:.3f} s too long")

    # --- the link ----------------------------------------------------------------------------------

    def _dial(self) -> None:
        blocked_s = self._network.blocked_s(self.worker_id)
        if blocked_s > 0 or not self._dispatcher.is_alive:
            wait_s = min(DIAL_TIMEOUT_S, blocked_s) if blocked_s else 0.01
            self._redial(wait_s)
            return
        connection = Connection(self._network, self, self._dispatcher, self.worker_id)
        connection.on_worker_message = lambda message: self._welcomed(connection, message)
        connection.on_worker_end = lambda reason: self._on_refused(connection)
        # The handshake takes some round trips and a look at the whitelist.
        self._dispatcher.later(0.01, self._dispatcher.greet, connection, f"{self.name}-{self.life}")
        self.later(DIAL_TIMEOUT_S, self._give_dial_up, connection)
        self.connection = connection

    def _give_dial_up(self, connection: Connection) -> None:
        if self.connection is connection and not self.state.is_linked:
            connection.cut("the handshake took too long")
            self.connection = None
            self._redial(0.0)

    def _on_refused(self, connection: Connection) -> None:
        if self.connection is connection:
            self._redial(0.0)

    def _redial(self, wait_s: float) -> None:
        self.connection = None
        delay_s = reconnect_delay_s(self._failures, self.world.random.random())
        self._failures += 1
        self.later(wait_s + delay_s, self._dial_again, self._failures)

    def _dial_again(self, failures: int) -> None:
        if self.connection is None and failures == self._failures:
            self._dial()

    def _welcomed(self, connection: Connection, welcome: Welcome) -> None:
        if self.connection is not connection:
            return
        self._failures = 0
        connection.on_worker_message = lambda message: self._on_message(connection, message)
        connection.on_worker_end = lambda reason: self._on_end(connection, reason)
        self._perform(reactor.on_link_up(self.state, welcome, self.clock))
        self._heartbeat(connection, welcome.heartbeat_interval_s)

    def _heartbeat(self, connection: Connection, interval_s: float) -> None:
        if self.connection is connection:
            self._perform(reactor.on_heartbeat_due(self.state, VITALS, self.clock))
            self.later(interval_s, self._heartbeat, connection, interval_s)

    def _on_end(self, connection: Connection, reason: str) -> None:
        if self.connection is connection:
            self.connection = None
            connection.close_by_worker(reason)
            self._perform(reactor.on_link_lost(self.state))
            self._redial(0.0)

    def _on_message(self, connection: Connection, message: Any) -> None:
        if self.connection is not connection:
            return
        state = self.state
        match message:
            case AssignAttempt():
                effects = reactor.on_assign(state, message, self.clock)
            case CancelAttempt():
                effects = reactor.on_cancel(state, message, self.clock)
            case AcknowledgeOutcome():
                if message.attempt_id in state.finished:
                    self._observer.on_told_committed(
                        self, message.attempt_id, state.finished[message.attempt_id].outcome
                    )
                effects = reactor.on_acknowledged(state, message.attempt_id)
            case OutcomeRefused():
                effects = reactor.on_outcome_refused(state, message)
            case HeartbeatAck():
                effects = reactor.on_heartbeat_acknowledged(state, message.sequence, self.clock)
            case AdmissionChanged():
                effects = reactor.on_admission_changed(state, message)
            case Drain():
                effects = reactor.on_drain(state)
            case Resume():
                effects = reactor.on_resume(state)
            case Refused():
                effects = reactor.on_refused(message)
            case _:
                raise AssertionError(message)
        self._perform(effects)

    # --- effects -----------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    if self.connection:
                        self.connection.to_dispatcher(effect.message)
                case SendOutcome():
                    if self.connection:
                        for message in effect.outcome.messages(effect.attempt_id):
                            self.connection.to_dispatcher(message)
                case StartCommand():
                    self._start_command(effect)
                case StopCommand():
                    self._stop_command(effect)
                case SpoolOutcome():
                    self.later(SPOOL_S * (0.5 + self.world.random.random()), self._spooled, effect)
                case ForgetOutcome():
                    self.later(SPOOL_S * 2, self._forget, effect.attempt_id)
                case CloseLink():
                    if self.connection:
                        self._on_end(self.connection, effect.reason)
                case LeaveForGood():
                    self.kill()
                    return
        if not self._is_watching_spool and any(not kept.is_spooled for kept in self.state.finished.values()):
            self._is_watching_spool = True
            self.later(SPOOL_POLL_S, self._watch_spool)
        ends_at = self.state.patience_ends_at
        if ends_at is not None and not self._is_patience_watched:
            self._is_patience_watched = True
            self.later(max(SLACK_S, ends_at - self.clock), self._on_patience_over)

    def _on_patience_over(self) -> None:
        self._is_patience_watched = False
        self._perform(handing_back.on_patience_over(self.state, self.clock))

    def _start_command(self, start: StartCommand) -> None:
        attempt_id = start.assignment.attempt_id
        random = self.world.random
        if random.random() < self.fails_to_start:
            self.later(0.002, self._refused, attempt_id)
            return
        self._executions += 1
        self._running[attempt_id] = self._executions
        self._observer.on_command_started(self, attempt_id)
        behaviour = self._observer.behaviour(start.assignment)
        started_in_s = random.uniform(0.001, 0.01)
        self.later(started_in_s, lambda: self._perform(reactor.on_process_started(self.state, attempt_id)))
        if behaviour.is_poison:
            self.later(started_in_s + 0.1, self.kill)
            return
        reason = None if behaviour.exit_code == 0 else FailureReason.EXIT_CODE
        self._end_in(
            started_in_s + behaviour.duration_s, attempt_id, start.assignment.sandbox, reason, behaviour.exit_code
        )

    def _stop_command(self, stop: StopCommand) -> None:
        if stop.attempt_id not in self._running:
            return
        reason = FailureReason.WORKER_LOST if stop.at_once else FailureReason.CANCELLED
        self._end_in(0.01 if stop.at_once else 0.5, stop.attempt_id, SandboxLevel.BASIC, reason, None)

    def _end_in(
        self, seconds: float, attempt_id: str, level: SandboxLevel, reason: FailureReason | None, exit_code: int | None
    ) -> None:
        # The execution's number makes each outcome unlike any other, so that mixing two up is seen.
        outcome = Outcome(OutcomeReport(reason, exit_code, self._executions, level, self.name))
        self.later(seconds, self._exited, attempt_id, self._running[attempt_id], outcome)

    def _exited(self, attempt_id: str, execution: int, outcome: Outcome) -> None:
        if self._running.get(attempt_id) == execution:
            del self._running[attempt_id]
            self._perform(reactor.on_process_exited(self.state, attempt_id, outcome, self.clock))

    def _refused(self, attempt_id: str) -> None:
        reason = RejectionReason.SANDBOX_UNAVAILABLE
        self._perform(reactor.on_process_refused(self.state, attempt_id, reason, "a step failed"))

    # --- the disk ----------------------------------------------------------------------------------

    def _spooled(self, effect: SpoolOutcome) -> None:
        if self.is_disk_full:
            self._perform(
                spooling.on_spool_failed(self.state, effect.attempt_id, "no space left on device", self.clock)
            )
            return
        self.spool[effect.attempt_id] = effect.outcome
        self._perform(spooling.on_spooled(self.state, effect.attempt_id))

    def _forget(self, attempt_id: str) -> None:
        self.spool.pop(attempt_id, None)
        self.damaged.discard(attempt_id)

    def _watch_spool(self) -> None:
        self._is_watching_spool = False
        self._perform(spooling.on_spool_due(self.state, self.clock))

    def _check_disk(self) -> None:
        shortage = "12 MB free" if self.is_disk_full else ""
        self._perform(spooling.on_disk_checked(self.state, shortage))
        self.later(1.0, self._check_disk)


def make_offer(
    name: str,
    slots: int,
    *,
    is_strict: bool = False,
    memory_mb: int = 8192,
    max_limits: Limits = NO_LIMITS,
    max_timeout_s: int | None = None,
) -> Offer:
    """Return what a worker of the simulation grants."""
    levels = [SandboxLevel.NONE, SandboxLevel.BASIC, *([SandboxLevel.STRICT] if is_strict else [])]
    proofs = tuple(LevelProof(level, "simulated") for level in levels)
    return Offer(
        name, slots, proofs, allows_network=True, platform="simulated", cpu_count=4, memory_total_bytes=memory_mb << 20,
        max_limits=max_limits, max_timeout_s=max_timeout_s,
    )  # fmt: skip
