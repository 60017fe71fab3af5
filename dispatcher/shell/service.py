"""The engine's shell: feeds events to the reactor and carries out its effects, records before messages."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from dispatcher.core.config import EngineConfig
from dispatcher.core.effects import (
    AttemptKey,
    ClaimTask,
    CloseLink,
    Effect,
    FetchFitting,
    FetchReady,
    ReadyTask,
    RecordSuperseded,
    Send,
    SuspendWorker,
    TaskClass,
)
from dispatcher.core.events import WorkerJoined
from dispatcher.core.reactor import Reactor
from dispatcher.ports import (
    Store,
    StoreRecord,
    WhitelistEntry,
    Wishes,
    WorkerConnected,
    WorkerDisconnected,
    WorkerDrainStarted,
    WorkerPaused,
)
from dispatcher.shell.beat import until_next_beat
from dispatcher.shell.handshake import Admitted
from dispatcher.shell.latest_vitals import LatestVitals
from dispatcher.shell.link import WorkerLink
from dispatcher.shell.output_reader import OutputReader
from dispatcher.shell.steps import Step, sorted_out
from dispatcher.shell.transfer_roster import TransferRoster
from dispatcher.shell.trust_desk import TrustDesk
from dispatcher.shell.wishes_watch import WishesWatch
from dispatcher.shell.witnesses import Witnesses
from dispatcher.shell.writer import StoreWriter
from octaskly_wire.errors import LinkLost
from octaskly_wire.messages import (
    AttemptFinished,
    AttemptRejected,
    AttemptStarted,
    AuditCheckpoint,
    DrainStarted,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    OutputPiece,
    Refused,
    RenewCertificate,
    TrustConfirmed,
    WorkPaused,
    WorkResumed,
)
from octaskly_wire.vocabulary import Admission, OutputStream, RefusalCode

logger = logging.getLogger(__name__)

MAX_WAITING_STEPS: Final = 32_000
"""Steps waiting for their commit; beyond it links are not read, so that workers feel the pressure.

A thousand workers of four slots bring up to 24,000 when all their tasks are short: heartbeats must not wait behind these.
"""
MAX_WAITING_BYTES: Final = 64 << 20
"""Output in those steps; the same beyond it."""


class DispatcherService:
    """Runs the engine on the current event loop; knows nothing of sockets' making or of Django."""

    def __init__(self, config: EngineConfig, store: Store, writer: StoreWriter, trust: TrustDesk) -> None:
        self._config = config
        self._store = store
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._reactor = Reactor(config)
        self._links: dict[str, WorkerLink] = {}
        self._steps: deque[Step] = deque()
        self._waiting_bytes = 0
        self._has_steps = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._watch = WishesWatch(store, writer, self._on_wishes)
        self._trust = trust
        self._witnesses = Witnesses(store, writer)
        self._fetches: set[asyncio.Task[None]] = set()
        self._vitals = LatestVitals(writer, self._submit, config.heartbeat_interval_s)
        self._failure: BaseException | None = None
        self._output_reader = OutputReader()
        self.transfers = TransferRoster(self._reactor.state)

    async def run(self) -> None:
        """Recover, then work until cancelled. Raises when the store fails for good."""
        recovered = await self._writer.call(self._store.recover)
        if recovered:
            logger.info(
                "Waiting for the workers of %d attempts that were live at the last stop",
                len(recovered),
                extra={"event": "attempts_recovered", "attempts": len(recovered)},
            )
        self._perform(self._reactor.on_recovered(recovered, self._loop.time()))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._carry_out())
            group.create_task(self._tick())
            group.create_task(self._watch.run())
            group.create_task(self._trust.run())
            group.create_task(self._vitals.run())

    def drain(self) -> None:
        """Give out no more work."""
        self._perform(self._reactor.on_drain())

    async def settle(self) -> None:
        """Wait until every step taken so far is committed and sent."""
        while self._steps:
            commit = self._steps[-1].commit
            if commit is not None:
                await asyncio.wait([commit])
            await asyncio.sleep(0)

    def close_links(self) -> None:
        """Tell all workers that the dispatcher stops; they will come back to the next one."""
        self.transfers.close_all()
        for link in list(self._links.values()):
            link.send(Refused(code=RefusalCode.SHUTTING_DOWN, detail="the dispatcher stops", is_final=False))
            link.close()

    # --- wishes from people ------------------------------------------------------------------------

    def on_tasks_submitted(self, classes: Iterable[TaskClass], tasks: Sequence[ReadyTask] = ()) -> None:
        """Take these tasks or, told none, look at the queue; call on the loop."""
        self._perform(self._reactor.on_tasks_submitted(classes, tasks))

    def on_cancel_requested(self, task_id: str) -> None:
        """Kill the task's live attempt; call on the loop."""
        self._perform(self._reactor.on_cancel_requested(task_id, self._loop.time()))

    def on_worker_changed(self) -> None:
        """Read the whitelist again at once; call on the loop."""
        self._watch.look_now()

    def publish_checkpoint(self, checkpoint: AuditCheckpoint) -> None:
        """Give a checkpoint of the audit trail to all workers to keep; call on the loop."""
        self._witnesses.publish(checkpoint, self._links.values())

    async def _on_wishes(self, wishes: Wishes) -> None:
        for task_id in wishes.cancelled_task_ids:
            self.on_cancel_requested(task_id)
        for entry in wishes.whitelist:
            self._on_whitelist_entry(entry)
        await self._trust.take(wishes.ca_certificates)

    def _on_whitelist_entry(self, entry: WhitelistEntry) -> None:
        self._perform(
            self._reactor.on_admission_changed(
                entry.worker_id,
                entry.admission,
                is_draining=entry.is_draining,
                detail=entry.detail,
                now=self._loop.time(),
            )
        )
        if entry.admission is not Admission.APPROVED:
            self.transfers.close_of(entry.worker_id)

    # --- links -------------------------------------------------------------------------------------

    async def serve(self, link: WorkerLink, admitted: Admitted) -> None:
        """Pump an admitted worker's messages until its link ends."""
        worker_id = link.worker_id = admitted.hello.worker_id
        registration = admitted.registration
        issuer_digest = self._trust.issuer_digest(admitted.certificate)
        self._submit(
            [
                WorkerConnected(
                    worker_id,
                    admitted.hello.boot_id,
                    link.address,
                    link.transport,
                    admitted.hello.software_version,
                    registration,
                    issuer_digest,
                )
            ]
        )
        replaced = self._links.get(worker_id)
        joined = WorkerJoined(
            worker_id=worker_id,
            link_id=link.link_id,
            boot_id=admitted.hello.boot_id,
            slots=registration.slots,
            levels=frozenset(proof.level for proof in registration.levels),
            allows_network=registration.allows_network,
            memory_mb=registration.memory_total_bytes >> 20,
            admission=admitted.whitelisted.admission,
            is_draining=admitted.whitelisted.is_draining,
            has_begun_drain=registration.is_draining,
            held=tuple(registration.held),
            max_limits=registration.max_limits,
            max_timeout_s=registration.max_timeout_s,
        )
        if replaced is not None:
            replaced.abort()
            self.transfers.close_of(worker_id)
        link.keep_kernel_short()
        self._links[worker_id] = link
        ids = {"worker_id": worker_id, "worker_name": registration.name, "address": link.address}
        extra = {"event": "worker_connected", **ids}
        logger.info("Worker %s (%s) connected from %s", registration.name, worker_id, link.address, extra=extra)
        self._perform(self._reactor.on_worker_joined(joined, self._loop.time()))
        self._trust.enter(link, admitted.certificate, issuer_digest, admitted.whitelisted.trusted_ca_digests)
        self._witnesses.on_connected(link, registration.witnessed)
        self._watch.look_at(worker_id)  # The whitelist may have changed between AUTH and this moment.
        detail = "the link ended"
        try:
            async for message in link.messages():
                if not self._has_room.is_set():
                    await self._has_room.wait()
                if self._links.get(worker_id) is not link:
                    return  # A newer link took over; what is still unread here comes again there.
                self._on_message(link, message)
        except LinkLost as error:
            detail = str(error)
            raise
        finally:
            self._trust.leave(link)
            if self._links.get(worker_id) is link:
                del self._links[worker_id]
                self.transfers.close_of(worker_id)
                self._vitals.forget(worker_id)
                self._submit([WorkerDisconnected(worker_id, detail)])
            self._output_reader.on_link_lost(link.link_id)
            self._perform(self._reactor.on_link_lost(worker_id, link.link_id))
            extra = {"event": "worker_disconnected", "detail": detail, **ids}
            logger.info("Worker %s (%s) disconnected: %s", registration.name, worker_id, detail, extra=extra)

    def _on_message(self, link: WorkerLink, message: FromWorker) -> None:
        now = self._loop.time()
        worker_id = link.worker_id
        match message:
            case AttemptFinished():
                stdout, stderr = link.take_outputs(message)
                effects = self._reactor.on_attempt_finished(
                    worker_id, message.attempt_id, message.report, stdout, stderr, now
                )
                self._perform(effects, is_urgent=not self._reactor.has_stock(worker_id))
            case Heartbeat():
                self._vitals.note(worker_id, message.vitals)
                link.send(HeartbeatAck(sequence=message.sequence))
                self._perform(self._reactor.on_heartbeat(worker_id, now))
            case AttemptStarted():
                effects = self._reactor.on_attempt_started(worker_id, message.attempt_id)
                self._perform(effects, is_urgent=not self._reactor.has_stock(worker_id))
            case OutputPiece():
                self._output_reader.on_piece(link.link_id, message)
            case AttemptRejected():
                self._perform(
                    self._reactor.on_attempt_rejected(
                        worker_id, message.attempt_id, message.reason, message.detail, now
                    )
                )
            case DrainStarted():
                self._submit([WorkerDrainStarted(worker_id)])
                self._perform(self._reactor.on_drain_started(worker_id))
            case RenewCertificate() | TrustConfirmed():
                self._trust.on_message(link, message)
            case WorkPaused():
                self._pause(worker_id, message.detail)
            case WorkResumed():
                self._pause(worker_id, "")
            case _:  # The session lets nothing else through in this phase.
                extra = {"event": "message_unexpected", "worker_id": worker_id}
                logger.warning("Worker %s sent a stray %s", worker_id, type(message).__name__, extra=extra)

    def _pause(self, worker_id: str, detail: str) -> None:
        self._submit([WorkerPaused(worker_id, detail)])
        self._perform(self._reactor.on_work_paused(worker_id, detail))

    # --- live output -------------------------------------------------------------------------------

    async def read_output(
        self, worker_id: str, attempt_id: str, stream: OutputStream, offset: int
    ) -> OutputPiece | None:
        """Return the next piece of an attempt's output; None while its worker is not connected. Call on the loop."""
        link = self._links.get(worker_id)
        return None if link is None else await self._output_reader.read(link, attempt_id, stream, offset)

    # --- effects -----------------------------------------------------------------------------------

    def _submit(self, records: Sequence[StoreRecord]) -> None:
        self._enter_step(self._writer.submit(records), ())

    def _perform(self, effects: Sequence[Effect], *, is_urgent: bool = True) -> None:
        if not effects:
            return
        records, wanted, output_bytes = sorted_out(effects)
        commit = self._writer.submit(records, is_urgent=is_urgent) if records else None
        self._enter_step(commit, effects, output_bytes)
        for look in wanted:
            fetch = self._loop.create_task(self._fetch(look))
            self._fetches.add(fetch)
            fetch.add_done_callback(self._on_fetch_done)

    def _enter_step(
        self, commit: asyncio.Future[frozenset[AttemptKey]] | None, effects: Sequence[Effect], waiting_bytes: int = 0
    ) -> None:
        self._steps.append(Step(commit, effects, waiting_bytes))
        self._waiting_bytes += waiting_bytes
        self._has_steps.set()
        if not self._is_room():
            self._has_room.clear()

    def _is_room(self) -> bool:
        return len(self._steps) < MAX_WAITING_STEPS and self._waiting_bytes < MAX_WAITING_BYTES

    async def _carry_out(self) -> None:
        """Carry out steps in order, each after its commit: a message never overtakes an earlier one."""
        while True:
            while self._steps:
                step = self._steps[0]
                refused = await step.commit if step.commit is not None else frozenset()
                self._steps.popleft()
                self._waiting_bytes -= step.output_bytes
                self._send_all(step.effects, refused)
                if not self._has_room.is_set() and self._is_room():
                    self._has_room.set()
            self._has_steps.clear()
            if self._failure is not None:
                raise self._failure
            await self._has_steps.wait()

    def _send_all(self, effects: Sequence[Effect], refused: frozenset[AttemptKey]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                link = self._links.get(effect.worker_id)
                if link is not None and link.link_id == effect.link_id and effect.unless_refused not in refused:
                    link.send(effect.message)
            elif isinstance(effect, CloseLink):
                link = self._links.get(effect.worker_id)
                if link is not None and link.link_id == effect.link_id:
                    link.close()
            elif isinstance(effect, ClaimTask) and effect.key in refused:
                self._perform(self._reactor.on_claim_refused(effect.key))
            elif isinstance(effect, RecordSuperseded) and effect.key in refused:
                self._perform(self._reactor.on_outcome_refused(effect.worker_id, effect.key))
            elif isinstance(effect, SuspendWorker):
                extra = {"event": "worker_suspended", "worker_id": effect.worker_id, "detail": effect.reason}
                logger.warning("Suspended worker %s: %s", effect.worker_id, effect.reason, extra=extra)
                self._watch.look_now()  # The whitelist is what the engine acts on.

    async def _fetch(self, wanted: FetchReady | FetchFitting) -> None:
        store, limit = self._store, wanted.limit
        if isinstance(wanted, FetchReady):
            classes = wanted.classes
            tasks = await self._writer.call(lambda: store.fetch_ready(classes, limit))
            self._perform(self._reactor.on_ready_fetched(classes, tasks, limit))
        else:
            task_class, ceiling = wanted.task_class, wanted.ceiling
            tasks = await self._writer.call(lambda: store.fetch_fitting(task_class, ceiling, limit))
            self._perform(self._reactor.on_fitting_fetched(task_class, ceiling, tasks, limit))

    def _on_fetch_done(self, fetch: asyncio.Task[None]) -> None:
        self._fetches.discard(fetch)
        if not fetch.cancelled() and (error := fetch.exception()) is not None:
            self._failure = error
            self._has_steps.set()

    # --- clocks ------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            # While nothing can be written no lease may run out: the reactor takes the gap for what it is.
            if self._writer.is_healthy:
                self._perform(self._reactor.on_tick(self._loop.time()))
            await asyncio.sleep(until_next_beat(self._config.tick_s, self._loop.time()))
