"""Protocol numbers, each with its unit and its reason."""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1
"""Raised when a message changes in a way an older peer cannot read."""

MAX_FRAME_BYTES: Final = 1 << 20
"""Cap of one frame's payload. A larger announced length closes the link before anything is buffered."""

MAX_UNAUTHENTICATED_FRAME_BYTES: Final = 8 << 10
"""Cap before AUTH: a certificate request and a certificate fit, a memory attack does not."""

MAX_CHUNK_BYTES: Final = 256 << 10
"""Cap of one piece of an output or a file."""

MAX_INLINE_OUTPUT_BYTES: Final = 64 << 10
"""Output up to this size rides inside AttemptFinished; more goes ahead of it in chunks."""

MAX_CHUNKED_OUTPUT_BYTES: Final = 1 << 20
"""Output up to this size goes in chunks, and is held in memory on both ends; more is stored as a content is."""

MAX_OUTPUT_BYTES: Final = 64 << 20
"""Kept bytes a stream, at most: the head, and the last half mebibyte. What lies between is counted only."""

MAX_COMMAND_BYTES: Final = 65_536

MAX_INPUTS: Final = 500
"""Files that one task may name as inputs; an assignment with all of them still fits a frame."""

MAX_OUTPUT_PATTERNS: Final = 64
"""Names and globs of outputs in one task."""

MAX_OUTPUT_FILES: Final = 500
"""Files that the outputs of one attempt may come to; a report with all of them still fits a frame."""

HEARTBEAT_INTERVAL_S: Final = 5.0
LEASE_S: Final = 30.0
"""Silence after which an attempt's state is unknown: six missed heartbeats."""

RECONNECT_GRACE_S: Final = 60.0
"""How long an unknown attempt is waited for before it is queued again."""

READ_OUTPUT_S: Final = 20.0
"""How long a ReadOutput waits for something to tell."""

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""TLS, ENROL and AUTH together must end within this, or the peer is dropped."""

CANCEL_GRACE_S: Final = 5.0
"""Between TERM and KILL for a command that is cancelled or over its time."""

DEFAULT_PORT: Final = 5555

MAX_TRUSTED_CAS: Final = 4
"""CAs of a cluster at a time: the present one, and those on their way in or out."""
