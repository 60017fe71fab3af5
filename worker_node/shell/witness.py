"""Keeps checkpoints of the cluster's audit trail: a file of lines in the state folder that the dispatcher cannot take back.

The worker cannot read anything from them. It shows the highest one when it registers, and prints all with --witness.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from octaskly_wire.messages import AuditCheckpoint
from worker_node.shell.durable import put_file, sync_folder
from worker_node.shell.keyfile import StateFolder

logger = logging.getLogger(__name__)

FILE: Final = "witness.jsonl"
MAX_LINES: Final = 4096
"""Kept; of more the older half goes."""


class _Line(msgspec.Struct, frozen=True):
    cluster_id: str
    row_id: int
    head: str
    taken_at: str
    signature: str


class Witness:
    """The checkpoints of the cluster that this worker belongs to; a higher one never gives way to a lower one."""

    def __init__(self, folder: StateFolder) -> None:
        """Read what is kept."""
        self._folder = folder
        self._path = folder.path / FILE
        self._lines = _read(self._path)
        self._unwritten: list[_Line] = []
        self._writing: asyncio.Task[None] | None = None
        self._was_told = False
        identity = folder.load_identity()
        self._cluster_id = identity.cluster_id if identity else ""
        self.highest = _highest(self._lines, self._cluster_id)

    def keep(self, checkpoint: AuditCheckpoint) -> None:
        """Keep a checkpoint that is higher than all before, and see that it is soon on disk; call on the loop."""
        highest = self.highest
        if highest is not None and checkpoint.row_id <= highest.row_id:
            if checkpoint.row_id < highest.row_id or checkpoint.head != highest.head:
                self._complain(checkpoint, highest)
            return
        if not self._cluster_id and (identity := self._folder.load_identity()):
            self._cluster_id = identity.cluster_id
        self.highest = checkpoint
        signature = checkpoint.signature.hex()
        line = _Line(self._cluster_id, checkpoint.row_id, checkpoint.head, checkpoint.taken_at, signature)
        self._lines.append(line)
        self._unwritten.append(line)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Return when all is on disk that can be written."""
        if self._writing is not None:
            await self._writing

    def _complain(self, shown: AuditCheckpoint, highest: AuditCheckpoint) -> None:
        if self._was_told:
            return
        self._was_told = True
        extra = {"event": "audit_contradicted", "row_id": shown.row_id, "kept_row_id": highest.row_id}
        logger.warning(
            "The cluster's audit trail is not what it was: its checkpoint is of row %d, and this worker keeps one of row %d",
            shown.row_id,
            highest.row_id,
            extra=extra,
        )

    async def _write(self) -> None:
        while self._unwritten:
            lines, self._unwritten = self._unwritten, []
            try:
                if len(self._lines) > MAX_LINES:
                    self._lines = self._lines[-MAX_LINES // 2 :]
                    await asyncio.to_thread(_replace, self._path, self._lines)
                else:
                    await asyncio.to_thread(_append, self._path, lines)
            except OSError as error:
                detail = error.strerror or str(error)
                extra = {"event": "witness_not_written", "detail": detail}
                logger.warning("A checkpoint of the audit could not be kept in %s: %s", self._path, detail, extra=extra)


def print_kept(state_dir: Path) -> int:
    """Print the checkpoints of the cluster that this state folder belongs to, one a line; return the exit code."""
    lines = _read(state_dir / FILE)
    if not lines:
        logger.error("%s holds no checkpoints", state_dir, extra={"event": "no_checkpoints"})
        return 1
    for line in lines:
        if line.cluster_id == lines[-1].cluster_id:
            print(msgspec.json.encode(line).decode())  # noqa: T201 - what was asked for
    return 0


def _highest(lines: list[_Line], cluster_id: str) -> AuditCheckpoint | None:
    for line in sorted(lines, key=lambda one: one.row_id, reverse=True):
        if line.cluster_id == cluster_id:
            shown = {**msgspec.structs.asdict(line), "signature": bytes.fromhex(line.signature)}
            del shown["cluster_id"]
            try:
                return msgspec.convert(shown, AuditCheckpoint)
            except msgspec.ValidationError:
                continue  # Spoilt on disk: the dispatcher would refuse the whole Register.
    return None


def _read(path: Path) -> list[_Line]:
    """Return the lines that are whole; one that a power cut tore is passed over."""
    found = []
    try:
        data = path.read_bytes()
    except OSError:
        return []
    for text in data.splitlines():
        try:
            line = msgspec.json.decode(text, type=_Line)
            bytes.fromhex(line.signature)
        except (msgspec.MsgspecError, ValueError):
            continue
        found.append(line)
    return found


def _append(path: Path, lines: list[_Line]) -> None:
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # The empty line before it ends one that a power cut tore.
        os.write(descriptor, b"\n" * (not is_new) + _text(lines))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def _replace(path: Path, lines: list[_Line]) -> None:
    put_file(path, _text(lines))
    sync_folder(path.parent)


def _text(lines: list[_Line]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
