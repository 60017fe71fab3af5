"""The worker as a whole: prove levels, find and join the dispatcher, stay connected, drain, leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from octaskly_wire.messages import (
    AcknowledgeOutcome,
    AdmissionChanged,
    AssignAttempt,
    CancelAttempt,
    CertificateRenewed,
    Drain,
    HeartbeatAck,
    OutcomeRefused,
    ReadOutput,
    Refused,
    RenewalRefused,
    Resume,
    ToWorker,
    TrustChanged,
    WitnessCheckpoint,
)
from octaskly_wire.vocabulary import RejectionReason
from worker_node.config import WorkerConfig
from worker_node.core import delivery, handing_back, reactor
from worker_node.core.effects import (
    CloseLink,
    Effect,
    ForgetOutcome,
    LeaveForGood,
    ReleaseContents,
    Send,
    SendOutcome,
    SpoolOutcome,
    StartCommand,
    StopCommand,
    StoreContents,
)
from worker_node.core.outcome import Outcome
from worker_node.core.state import WorkerState
from worker_node.logs import of_attempt
from worker_node.sandbox.host import Host
from worker_node.sandbox.probe import LevelReport, prove_levels
from worker_node.sandbox.spawner_host import SpawnerHost
from worker_node.sandbox.survey import survey
from worker_node.sandbox.workspace import Workspaces
from worker_node.shell.content_sender import ContentSender
from worker_node.shell.content_sender import Listener as ContentListener
from worker_node.shell.identity_keeper import IdentityKeeper
from worker_node.shell.joiner import Joiner
from worker_node.shell.keyfile import Identity, StateFolder
from worker_node.shell.level_keeper import LevelKeeper
from worker_node.shell.link_keeper import LinkKeeper
from worker_node.shell.link_keeper import Listener as LinkListener
from worker_node.shell.offering import offer_of
from worker_node.shell.outcome_keeper import OutcomeKeeper
from worker_node.shell.runner import Listener, Runner
from worker_node.shell.task_files import TaskFiles
from worker_node.shell.transfers import Transfers
from worker_node.shell.vitals import VitalSigns
from worker_node.shell.witness import Witness

logger = logging.getLogger(__name__)

LAST_WORDS_S: Final = 5.0
"""How long outcomes of commands that were killed at the end of a drain may take to be acknowledged or spooled."""


def new_host(workspaces: Workspaces) -> Host:
    """Return what runs commands on this system."""
    if sys.platform != "linux":
        from worker_node.sandbox.portable import PortableHost

        return PortableHost()
    return SpawnerHost(*survey(workspaces.root))


class Node:
    """Wires the core to the world. One instance a process."""

    def __init__(
        self,
        config: WorkerConfig,
        folder: StateFolder,
        host: Host,
        reports: Sequence[LevelReport],
        task_env: Mapping[str, str],
    ) -> None:
        """Take the parts; nothing is dialled yet."""
        self._config = config
        self._loop = asyncio.get_running_loop()
        joiner = Joiner(config, folder, secrets.token_hex(16))
        listener = Listener(self._on_started, self._on_finished, self._on_refused)
        workspaces = Workspaces(folder.work)
        self._transfers = Transfers()
        reserve_bytes = config.disk_reserve_mb << 20
        self._files = TaskFiles(
            folder.path, config.files, reserve_bytes, self._transfers, has_own_users=host.facts.has_own_users
        )
        self._contents = ContentSender(
            self._transfers, self._files.outgoing, ContentListener(self._on_stored, self._on_store_refused)
        )
        self._runner = Runner(host, workspaces, task_env, listener, self._files, config.limits)
        self._levels = LevelKeeper(
            host, workspaces, reports, self._on_levels_changed, allows_network=config.allows_network
        )
        self._state = WorkerState(offer_of(config, reports))
        self._keeper = OutcomeKeeper(self._state, folder.path, reserve_bytes, self._perform)
        self._witness = Witness(folder)
        self._state.witnessed = self._witness.highest
        self._identity = IdentityKeeper(folder, self._on_identity_changed)
        self._links = LinkKeeper(
            joiner,
            self._state,
            self._runner.live,
            self._transfers,
            VitalSigns(folder.path),
            self._identity,
            LinkListener(self._on_messages, self._perform, self._leave),
        )
        self._is_quiet = asyncio.Event()
        self._must_leave = asyncio.Event()
        self._why_leave = ""
        self._patience: asyncio.TimerHandle | None = None
        self._stop_asked = asyncio.Event()
        self._kill_asked = asyncio.Event()

    async def run(self) -> int:
        """Work until told to stop; return the exit code."""
        self._take_signals()
        self._keeper.replay()
        self._files.keep_only({attempt_id: kept.outcome.contents for attempt_id, kept in self._state.finished.items()})
        work = (self._keeper.run(), self._levels.run(), self._links.run(), self._identity.run())
        chores = [asyncio.create_task(chore) for chore in work]
        try:
            await self._first_of(self._stop_asked, self._must_leave, *chores)
            for task in chores:
                if task.done():
                    task.result()  # only a defect ends it
            if self._must_leave.is_set():
                logger.error("%s", self._why_leave, extra={"event": "worker_left", "detail": self._why_leave})
                return 1
            return await self._drain()
        finally:
            for task in chores:
                task.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            await self._runner.close()
            await self._contents.close()
            await self._files.close()
            self._transfers.close()
            await self._keeper.close()
            await self._witness.close()

    def stop(self) -> None:
        """Drain at the first call, kill at the second; what signals do."""
        if self._stop_asked.is_set():
            self._kill_asked.set()
        self._stop_asked.set()

    # --- draining ----------------------------------------------------------------------------------

    async def _drain(self) -> int:
        running, extra = len(self._state.running), {"event": "worker_draining"}
        logger.info("Draining: %d commands run, a second signal kills them", running, extra=extra)
        self._perform(reactor.on_stop(self._state))
        if not await self._quiet_within(self._config.drain_timeout_s) and not self._kill_asked.is_set():
            running, extra = len(self._state.running), {"event": "commands_killed"}
            logger.warning("%d commands did not finish in time and are killed", running, extra=extra)
            self._perform(reactor.on_drain_timeout(self._state))
            await self._quiet_within(LAST_WORDS_S)
        if self._kill_asked.is_set():
            logger.warning("Stopped at once", extra={"event": "worker_stopped"})
            return 1
        if self._links.link:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._links.link.flush()
        lost = await self._keeper.leave_the_rest_on_disk(LAST_WORDS_S)
        if lost:
            logger.error("%d outcomes could be neither delivered nor spooled", lost, extra={"event": "outcomes_lost"})
            return 1
        if self._state.finished:
            logger.warning("%d outcomes wait in the spool for the next start", len(self._state.finished))
        logger.info("Drained", extra={"event": "worker_stopped"})
        return 0

    async def _quiet_within(self, seconds: float) -> bool:
        """Wait until nothing is left to do; return False at the timeout, a kill or the order to leave."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._first_of(self._is_quiet, self._kill_asked, self._must_leave)
        return self._is_quiet.is_set()

    async def _first_of(self, *awaited: asyncio.Event | asyncio.Task[None]) -> None:
        waits = [asyncio.ensure_future(item.wait()) for item in awaited if isinstance(item, asyncio.Event)]
        tasks = [item for item in awaited if isinstance(item, asyncio.Task)]
        try:
            await asyncio.wait([*waits, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _take_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._loop.add_signal_handler(number, self.stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: self._loop.call_soon_threadsafe(self.stop))

    # --- what the dispatcher says ------------------------------------------------------------------

    def _on_messages(self, messages: Iterable[ToWorker]) -> None:
        for message in messages:
            self._carry_out(self._effects_of(message))
        self._look_at_state()

    def _effects_of(self, message: ToWorker) -> list[Effect]:
        state = self._state
        match message:
            case AssignAttempt():
                return reactor.on_assign(state, message, self._loop.time())
            case AcknowledgeOutcome():
                return reactor.on_acknowledged(state, message.attempt_id)
            case ReadOutput():
                self._runner.live.serve(message)
            case CertificateRenewed() | RenewalRefused() | TrustChanged():
                self._identity.on_message(message)
            case WitnessCheckpoint():
                self._witness.keep(message.checkpoint)
                state.witnessed = self._witness.highest
            case CancelAttempt():
                return reactor.on_cancel(state, message, self._loop.time())
            case OutcomeRefused():
                extra = of_attempt("outcome_refused", message.attempt_id, detail=message.detail)
                logger.error(
                    "The outcome of attempt %s was refused: %s", message.attempt_id, message.detail, extra=extra
                )
                return reactor.on_outcome_refused(state, message)
            case HeartbeatAck():
                return reactor.on_heartbeat_acknowledged(state, message.sequence, self._loop.time())
            case AdmissionChanged():
                logger.info("Admission: %s %s", message.admission, message.detail, extra={"event": "admission_changed"})
                return reactor.on_admission_changed(state, message)
            case Drain():
                return reactor.on_drain(state)
            case Resume():
                return reactor.on_resume(state)
            case Refused():
                return reactor.on_refused(message)
            case _:
                return [CloseLink(f"unexpected {type(message).__name__}")]
        return []

    # --- what the runner tells ---------------------------------------------------------------------

    def _on_started(self, attempt_id: str) -> None:
        self._perform(reactor.on_process_started(self._state, attempt_id))

    def _on_finished(self, attempt_id: str, outcome: Outcome) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            report = outcome.report
            reason = report.failure_reason or "completed"
            extra = of_attempt("attempt_ended", attempt_id, reason=reason, duration_ms=report.duration_ms)
            logger.debug("Attempt %s ended: %s, exit code %s", attempt_id, reason, report.exit_code, extra=extra)
        self._perform(reactor.on_process_exited(self._state, attempt_id, outcome, self._loop.time()))

    def _on_refused(self, attempt_id: str, reason: RejectionReason, detail: str) -> None:
        extra = of_attempt("attempt_rejected", attempt_id, reason=reason, detail=detail)
        logger.warning("Attempt %s could not be started (%s): %s", attempt_id, reason, detail, extra=extra)
        if reason is RejectionReason.SANDBOX_UNAVAILABLE:
            self._levels.doubt()
        self._perform(reactor.on_process_refused(self._state, attempt_id, reason, detail))

    # --- what the sender of contents tells ---------------------------------------------------------

    def _on_stored(self, attempt_id: str) -> None:
        self._perform(delivery.on_contents_stored(self._state, attempt_id))

    def _on_store_refused(self, attempt_id: str, detail: str) -> None:
        self._perform(delivery.on_contents_refused(self._state, attempt_id, detail))

    def _on_levels_changed(self, reports: Sequence[LevelReport]) -> None:
        self._state.offer = offer_of(self._config, reports)
        # What a worker offers is said when a link begins; what runs is adopted by the next one.
        self._links.close("the proven sandbox levels changed")

    def _on_identity_changed(self, identity: Identity) -> None:
        self._links.adopt(identity)

    # --- effects -----------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        self._carry_out(effects)
        self._look_at_state()

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    if self._links.link:
                        self._links.link.send(effect.message)
                case SendOutcome():
                    if self._links.link:
                        self._links.link.send_outcome(effect.attempt_id, effect.outcome)
                case StartCommand():
                    self._runner.start(effect.assignment, effect.backend)
                case StopCommand():
                    self._runner.stop(effect.attempt_id, at_once=effect.at_once)
                case StoreContents():
                    self._contents.store(effect.attempt_id, effect.contents)
                case ReleaseContents():
                    self._contents.release(effect.attempt_id)
                case SpoolOutcome() | ForgetOutcome():
                    self._keeper.perform(effect)
                case CloseLink():
                    self._links.close(effect.reason)
                case LeaveForGood():
                    self._leave(effect.reason)

    def _look_at_state(self) -> None:
        """Follow what one step of the core, or several, made of the state."""
        self._keeper.on_step()
        if self._patience is None and (ends_at := self._state.patience_ends_at) is not None:
            self._patience = self._loop.call_at(ends_at, self._on_patience_over)
        if self._state.is_stopping:  # else nobody waits for it
            if self._state.can_leave:
                self._is_quiet.set()
            else:
                self._is_quiet.clear()

    def _on_patience_over(self) -> None:
        self._patience = None
        self._perform(handing_back.on_patience_over(self._state, self._loop.time()))

    def _leave(self, reason: str) -> None:
        self._why_leave = self._why_leave or reason
        self._must_leave.set()


async def check_levels(workspaces: Workspaces, *, allows_network: bool) -> list[LevelReport]:
    """Prove the levels with a host of its own; what `--check` prints."""
    host = new_host(workspaces)
    try:
        return await prove_levels(host, workspaces, allows_network=allows_network)
    finally:
        await host.close()


async def run(
    config: WorkerConfig,
    folder: StateFolder,
    task_env: Mapping[str, str],
    on_made: Callable[[Node], None] = lambda _: None,
) -> int:
    """Be a worker until told to stop.

    `task_env` is the environment that level none passes on; `on_made` gets the node, to stop it without signals.
    """
    workspaces = Workspaces(folder.work)
    if leftovers := workspaces.wipe_all():
        logger.info("Wiped %d folders that an earlier run left", leftovers)
    host = new_host(workspaces)
    try:
        reports = await prove_levels(host, workspaces, allows_network=config.allows_network)
        for report in reports:
            logger.debug("Sandbox %s: %s", report.level, report.backend or report.why_not)
        node = Node(config, folder, host, reports, task_env)
        on_made(node)
        gc.freeze()  # what is loaded is much to look through for garbage, and never is any
        return await node.run()
    finally:
        await host.close()
