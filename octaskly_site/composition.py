"""Joins store, engine, listeners, beacon, web server and local worker into one process on one loop."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connections

from accounts_app.bootstrap import ensure_first_admin
from dispatcher.config import ShellConfig
from dispatcher.core.config import EngineConfig
from dispatcher.shell.credentials import Credentials
from dispatcher.shell.handshake import ClusterFacts, Gatekeeper
from dispatcher.shell.service import DispatcherService
from dispatcher.shell.tcp_listener import TcpListener
from dispatcher.shell.transfer import TransferServer
from dispatcher.shell.trust_desk import TrustDesk
from dispatcher.shell.writer import StoreWriter
from octaskly_site import env, garbage, open_files, staged_secret, status, web_server
from octaskly_site.announcing import announced
from octaskly_site.asgi import Application
from octaskly_site.database import prepare_database
from octaskly_site.database_lock import DatabaseLock
from octaskly_site.env import ConfigurationError
from octaskly_site.expiry import files_expire
from octaskly_site.join import views as join_views
from octaskly_site.join.content import JoinContent
from octaskly_site.join.shelf import BUNDLES_FOLDER, Shelf
from octaskly_site.live.application import LiveApplication
from octaskly_site.local_worker import LocalWorker
from octaskly_site.options import DispatcherOptions
from octaskly_site.sampling import samples_are_taken
from octaskly_site.storage import Storage
from octaskly_site.web.front import Front, prepare_front
from octaskly_site.welcome import print_welcome
from octaskly_site.witnessing import checkpoints_are_taken
from octaskly_wire.vocabulary import SandboxLevel
from tasks_app import blob_store
from tasks_app import signals as task_signals
from tasks_app.dispatch_store import DispatchStore
from workers_app import signals as worker_signals
from workers_app.services import ClusterIdentity, WrongSecretKey, ensure_cluster, issue_leaf, trusted_certificates

if TYPE_CHECKING:
    from dispatcher.ports import ReadyTask
    from dispatcher.shell.quic_listener import QuicListener

logger = logging.getLogger(__name__)

LAST_REQUESTS_S = 5.0
"""How long requests in hand may take at the end."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before the loop starts."""

    options: DispatcherOptions
    cluster: ClusterIdentity
    api_socket: socket.socket
    front: Front
    admin: tuple[str, str | None]


def run(options: DispatcherOptions) -> int:
    """Run the dispatcher until it is told to stop; return the exit code."""
    # First of all: a second dispatcher on the same database must not touch it. Given back last of all, for the
    # threads of the last requests may outlive the loop.
    atexit.register(DatabaseLock(options.db_path).release)
    open_files.raise_limit()
    _settle_secret(options)
    prepared = _prepare(options)
    application = Application(options.threads)

    async def main() -> int:
        try:
            return await _main(prepared, application.live)
        finally:
            await application.close(LAST_REQUESTS_S)

    return web_server.run(application, prepared.api_socket, prepared.front.limits, prepared.front.own, main)


def _settle_secret(options: DispatcherOptions) -> None:
    try:
        staged_secret.settle(options.db_path)
    except OSError as error:
        folder = options.db_path.parent
        raise ConfigurationError(f"cannot settle the secret key in {folder}: {error.strerror or error}") from error


def _prepare(options: DispatcherOptions) -> Prepared:
    # The ports before the database: what cannot start leaves nothing behind.
    try:
        api_socket = web_server.open_listening_socket(options.api_host, options.api_port)
    except OSError as error:
        message = web_server.listening_error(error, "--api-port", "--api-host", options.api_host, options.api_port)
        raise ConfigurationError(message) from error
    try:
        web_server.open_listening_socket(options.bind, options.port).close()
    except OSError as error:
        message = web_server.listening_error(error, "--port", "--bind", options.bind, options.port)
        raise ConfigurationError(message) from error
    if options.quic_port:
        _check_quic(options)
    prepare_database(options.db_path)
    try:
        cluster = ensure_cluster(datetime.now(UTC))
    except WrongSecretKey as error:
        raise ConfigurationError(f"--secret-key: wrong secret key for {options.db_path}: {error}") from error
    front = prepare_front(options, cluster, datetime.now(UTC))
    admin = ensure_first_admin(env.text("OCTASKLY_ADMIN_PASSWORD") or None)
    connections.close_all()
    return Prepared(options, cluster, api_socket, front, admin)


def _check_quic(options: DispatcherOptions) -> None:
    if importlib.util.find_spec("aioquic") is None:
        raise ConfigurationError("--quic-port: QUIC needs the package aioquic; --no-quic goes without it")
    try:
        with socket.socket(socket.AF_INET6 if ":" in options.bind else socket.AF_INET, socket.SOCK_DGRAM) as tried:
            tried.bind((options.bind, options.quic_port))
    except OSError as error:
        message = web_server.listening_error(error, "--quic-port", "--bind", options.bind, options.quic_port)
        raise ConfigurationError(f"{message} (UDP); --no-quic goes without it") from error


async def _main(prepared: Prepared, live: LiveApplication) -> int:
    options = prepared.options
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(options.threads, thread_name_prefix="octaskly-pool"))
    stop = StopSignals(loop)
    blobs = blob_store.store()
    store = DispatchStore(blobs)
    writer = StoreWriter(store, loop)
    storage = Storage(options.db_path, settings.OCTASKLY_DISK_RESERVE_MB, lambda: writer.is_healthy)
    writer.start()
    engine_config = EngineConfig(
        heartbeat_interval_s=settings.OCTASKLY_HEARTBEAT_S,
        lease_s=settings.OCTASKLY_LEASE_S,
        reconnect_grace_s=settings.OCTASKLY_RECONNECT_GRACE_S,
    )
    shell_config = ShellConfig(prepared.cluster.cluster_id, options.bind, options.port, options.quic_port)
    credentials = await loop.run_in_executor(None, _credentials, prepared.cluster)
    service = DispatcherService(engine_config, store, writer, TrustDesk(credentials, store, writer))
    transfers = TransferServer(service.transfers, blobs)
    facts = ClusterFacts(
        cluster_id=prepared.cluster.cluster_id,
        credentials=credentials,
        heartbeat_interval_s=engine_config.heartbeat_interval_s,
        lease_s=engine_config.lease_s,
    )
    join_content = JoinContent(Shelf(options.db_path.parent / BUNDLES_FOLDER), prepared.cluster.pin)
    join_views.show(join_content, options.port)
    gatekeeper = Gatekeeper(facts, store, writer)
    listeners: list[TcpListener | QuicListener] = [
        TcpListener(
            shell_config,
            credentials.tls_context,
            gatekeeper,
            service,
            door=join_content.at_door,
            transfers=transfers,
        )
    ]
    if options.quic_port:
        listeners.append(_quic_listener(shell_config, credentials, gatekeeper, service, transfers))
    engine = asyncio.create_task(service.run(), name="engine")
    async with (
        _watched(storage),
        files_expire(),
        samples_are_taken(),
        checkpoints_are_taken(service),
        _wishes_from_apps(loop, service),
        announced(options, prepared.cluster.cluster_id, credentials),
    ):
        for listener in listeners:
            await listener.start()
        live.attach(service)
        status.set_probe(lambda: not engine.done() and not stop.is_set)
        local_worker = None
        if options.runs_local_worker:
            local_worker = LocalWorker(options, prepared.cluster, lambda: credentials.known_ca_certificate)
        try:
            if local_worker:
                await local_worker.start()
            logger.info(
                "Started: workers on port %d (TCP) and %s, web server on port %d",
                options.port,
                f"{options.quic_port} (QUIC)" if options.quic_port else "not over QUIC",
                options.api_port,
                extra={
                    "event": "dispatcher_started",
                    "port": options.port,
                    "quic_port": options.quic_port,
                    "api_port": options.api_port,
                },
            )
            await loop.run_in_executor(None, print_welcome, options, prepared.cluster, prepared.admin)
            return await _until_stopped(engine, stop, local_worker)
        finally:
            service.drain()
            if local_worker:
                await local_worker.stop(options.drain_timeout_s, stop.second)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await service.settle()
            # Only now: who follows what ran on through the drain has seen its end.
            await live.close()
            service.close_links()
            await asyncio.gather(*(listener.stop() for listener in listeners))
            await transfers.stop()
            gatekeeper.refusals.close()
            engine.cancel()
            await asyncio.gather(engine, return_exceptions=True)
            await writer.stop()


def _quic_listener(
    config: ShellConfig,
    credentials: Credentials,
    gatekeeper: Gatekeeper,
    service: DispatcherService,
    transfers: TransferServer,
) -> QuicListener:
    # Here, since the package that it stands on may be missing where nobody asks for QUIC.
    from dispatcher.shell.quic_listener import QuicListener

    return QuicListener(config, credentials.quic_configuration, gatekeeper, service, transfers=transfers)


def _credentials(cluster: ClusterIdentity) -> Credentials:
    """Return what this run begins with; each start has a certificate of its own."""
    try:
        return Credentials(cluster.server_key, issue_leaf(datetime.now(UTC)), trusted_certificates())
    finally:
        connections.close_all()


async def _until_stopped(engine: asyncio.Task[None], stop: StopSignals, local_worker: LocalWorker | None) -> int:
    """Wait for a signal, or for a part without which the dispatcher is of no use to fail."""
    garbage.spare_what_is_loaded()
    waiting = {engine, asyncio.create_task(stop.first.wait())}
    if local_worker:
        waiting.add(asyncio.create_task(local_worker.keep_running()))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting - {engine}:
            task.cancel()
    if stop.is_set:
        logger.info(
            "Stopping: what runs on workers goes on and is taken over at the next start",
            extra={"event": "dispatcher_stopping"},
        )
        return 0
    if engine.done() and (error := engine.exception()) is not None:
        logger.critical("The engine failed", exc_info=error, extra={"event": "engine_failed"})
    return 1


class StopSignals:
    """The first SIGINT or SIGTERM asks to drain, the second to stop at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._on_signal)
            except NotImplementedError:  # Windows: loops take no signal handlers there.
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._on_signal))

    @property
    def is_set(self) -> bool:
        """Return whether the dispatcher was asked to stop."""
        return self.first.is_set()

    def _on_signal(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


@contextlib.asynccontextmanager
async def _watched(storage: Storage) -> AsyncIterator[None]:
    """Turn to read-only mode while the database's disk is full."""
    status.set_read_only_reason(lambda: storage.read_only_reason)
    watching = asyncio.create_task(storage.watch(), name="storage")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        storage.close()


@contextlib.asynccontextmanager
async def _wishes_from_apps(loop: asyncio.AbstractEventLoop, service: DispatcherService) -> AsyncIterator[None]:
    """Carry what the apps announce, on whatever thread, to the engine on its loop."""

    def on_submitted(classes: set[tuple[str, bool]], tasks: Sequence[ReadyTask] = (), **_: object) -> None:
        wanted = {(SandboxLevel(sandbox), network) for sandbox, network in classes}
        loop.call_soon_threadsafe(service.on_tasks_submitted, wanted, tasks)

    def on_cancel(task_id: str, **_: object) -> None:
        loop.call_soon_threadsafe(service.on_cancel_requested, task_id)

    def on_worker(**_: object) -> None:
        loop.call_soon_threadsafe(service.on_worker_changed)

    receivers: list[tuple[object, Callable[..., None]]] = [
        (task_signals.tasks_submitted, on_submitted),
        (task_signals.cancel_requested, on_cancel),
        (worker_signals.worker_changed, on_worker),
    ]
    for sender, receiver in receivers:
        sender.connect(receiver, weak=False)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for sender, receiver in receivers:
            sender.disconnect(receiver)  # type: ignore[attr-defined]
