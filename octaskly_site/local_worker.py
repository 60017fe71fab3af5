"""Runs a worker on the dispatcher's own machine as a child process, and restarts it if it ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from django.db import connections

from octaskly_site.options import DispatcherOptions
from octaskly_site.surviving_worker import SurvivingWorker
from octaskly_wire.errors import BadProof
from octaskly_wire.identity import certificate_expires_at
from workers_app.services import ClusterIdentity, create_join_token

logger = logging.getLogger(__name__)

RESTART_PAUSE_S = 2.0
TOKEN_TTL_S = 600
PROJECT_ROOT = Path(__file__).resolve().parent.parent


class LocalWorker:
    """The worker of --with-worker. It enrols with a token that only it sees."""

    def __init__(
        self, options: DispatcherOptions, cluster: ClusterIdentity, known_ca: Callable[[], bytes] | None = None
    ) -> None:
        """Take what the child is started with; `known_ca` gives the CA of the dispatcher's certificate as it is then."""
        self._options = options
        self._cluster = cluster
        self._known_ca = known_ca or (lambda: cluster.ca_certificate)
        self._state_dir = options.db_path.parent / "local-worker"
        self._process: asyncio.subprocess.Process | SurvivingWorker | None = None

    async def start(self) -> None:
        """Start the child, or take over the one that outlived the last dispatcher, and what runs there with it."""
        host = "127.0.0.1" if self._options.bind in {"0.0.0.0", "::"} else self._options.bind  # noqa: S104 - compared
        address = f"{host}:{self._options.port}"
        survivor = SurvivingWorker.find(self._state_dir)
        if survivor is None:
            self._process = await self._new_child(address)
            return
        self._process = survivor
        if survivor.dials(address):
            logger.info("The local worker of an earlier start still runs (pid %d) and is taken over", survivor.pid)
        else:
            logger.warning("The local worker of an earlier start (pid %d) dials another port: it ends", survivor.pid)
            with contextlib.suppress(ProcessLookupError):
                survivor.kill()

    async def _new_child(self, address: str) -> asyncio.subprocess.Process:
        """Start the program, with a fresh join token when it has no identity for this cluster yet."""
        environment = {name: value for name, value in os.environ.items() if name not in _KEPT_FROM_WORKER}
        floor = self._options.local_min_sandbox
        if not self._has_identity():
            environment["OCTASKLY_JOIN_TOKEN"] = await asyncio.to_thread(_new_token)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "worker_node",
            "--dispatcher-addr",
            address,
            "--state-dir",
            str(self._state_dir),
            "--drain-timeout",
            str(self._options.drain_timeout_s),
            *(["--min-sandbox", floor] if floor else []),
            *(["--log-json"] if "--log-json" in sys.argv else []),
            cwd=PROJECT_ROOT,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            # Ctrl-C in the terminal is for the dispatcher, which then stops its worker in order.
            start_new_session=True,
        )

    async def keep_running(self) -> None:
        """Restart the child whenever it ends; returns only when the child cannot work at all (exit code 2)."""
        while self._process is not None:
            code = await self._process.wait()
            if code == 2:  # noqa: PLR2004 - bad usage: a restart would end the same way
                logger.critical(
                    "The local worker cannot run with its configuration",
                    extra={"event": "local_worker_failed"},
                )
                return
            logger.warning(
                "The local worker ended with code %s, starting it again",
                code,
                extra={"event": "local_worker_ended", "exit_code": code},
            )
            await asyncio.sleep(RESTART_PAUSE_S)
            await self.start()

    async def stop(self, drain_timeout_s: float, at_once: asyncio.Event) -> None:
        """Let the child finish what runs, for so long at most; a second signal ends it now."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        hurry = asyncio.create_task(at_once.wait())
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({hurry, ended}, timeout=drain_timeout_s + 10, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await ended

    def _has_identity(self) -> bool:
        """Return whether the child needs no token: it is enrolled here, knows our CA, and its certificate is still good."""
        path = self._state_dir / "identity.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, BadProof):
            stored = json.loads(path.read_text(encoding="utf-8"))
            expires_at = certificate_expires_at(base64.b64decode(stored["certificate"]))
            trusted = [stored["ca_certificate"], *stored.get("further_ca_certificates", ())]
            if stored["cluster_id"] != self._cluster.cluster_id:
                return False
            if self._known_ca() not in map(base64.b64decode, trusted):
                # Another CA took over while it was away: it is let in anew, as the same worker.
                path.unlink()
                return False
            return expires_at > datetime.now(UTC)
        return False


_KEPT_FROM_WORKER = {
    "OCTASKLY_SECRET_KEY", "OCTASKLY_ADMIN_PASSWORD", "OCTASKLY_JOIN_TOKEN", "OCTASKLY_METRICS_TOKEN", "OCTASKLY_TOKEN",
}  # fmt: skip


def _new_token() -> str:
    try:
        return create_join_token(uses=1, ttl_s=TOKEN_TTL_S, auto_approve=True, actor=None)
    finally:
        connections.close_all()
