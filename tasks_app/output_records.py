"""Writes what an attempt left in the blob store: rows of its files and long streams, and the ends of the streams."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from dispatcher.ports import AttemptKey, Blobs
from octaskly_wire.messages import CapturedOutput, OutcomeReport
from tasks_app.models import Blob, OutputKind, TaskOutput
from tasks_app.output_text import SHOWN_BYTES, join_ends, readable, shown_text

logger = logging.getLogger(__name__)


class KeptStream(NamedTuple):
    """One output stream as the tables hold it."""

    data: bytes
    """For the attempt's row: all that was kept, or the ends of what lies in the blob store."""
    text: str
    is_cut: bool
    """Whether the text is not all that the command wrote."""


_NOTHING: Final = KeptStream(b"", "", is_cut=False)


def kept_stream(blobs: Blobs, captured: CapturedOutput, data: bytes) -> KeptStream:
    """Return what the rows show of a stream that came with its outcome, or was stored ahead of it."""
    if not (data or captured.sha256 or captured.is_truncated):
        return _NOTHING
    if captured.data is not None or captured.sha256 is None:
        return KeptStream(data, *shown_text(data, is_truncated=captured.is_truncated))
    try:
        with blobs.open(captured.sha256) as file:
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size_bytes <= SHOWN_BYTES:
                ends = file.read(SHOWN_BYTES)
            else:
                half = SHOWN_BYTES // 2
                head = file.read(half)
                file.seek(size_bytes - half)
                ends = join_ends(head, file.read(half), captured.total_bytes - SHOWN_BYTES)
    except OSError as error:
        logger.warning("The output %s that a worker says it stored cannot be read: %s", captured.sha256, error)
        return KeptStream(b"", "", is_cut=True)
    return KeptStream(ends, readable(ends), captured.is_truncated or size_bytes > SHOWN_BYTES)


def write_outputs(key: AttemptKey, report: OutcomeReport, now: datetime) -> None:
    """Write a row for each file and each stored stream. One whose content is not here has a row all the same."""
    if not (report.outputs or report.stdout.sha256 or report.stderr.sha256):
        return
    stored = list(_stored(report))
    sizes = dict(Blob.objects.filter(sha256__in={row.sha256 for row in stored}).values_list("sha256", "size_bytes"))
    for row in stored:
        row.result_id, row.created_at = key.attempt_id, now
        if row.sha256 in sizes:
            row.blob_id, row.size_bytes = row.sha256, sizes[row.sha256]
    TaskOutput.objects.bulk_create(stored)


def _stored(report: OutcomeReport) -> Iterator[TaskOutput]:
    for output in report.outputs:
        yield TaskOutput(kind=OutputKind.FILE, name=output.name, sha256=output.sha256, size_bytes=output.size_bytes)
    for kind, captured in ((OutputKind.STDOUT, report.stdout), (OutputKind.STDERR, report.stderr)):
        if captured.data is None and captured.sha256 is not None:
            yield TaskOutput(kind=kind, name="", sha256=captured.sha256, size_bytes=captured.kept_bytes)
