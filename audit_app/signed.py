"""What the trail signs: checkpoints of its state, and tombstones of rows that were removed. Pure."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

RowId = Annotated[int, msgspec.Meta(ge=1)]
HexDigest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
UtcTime = Annotated[str, msgspec.Meta(pattern=r"^[0-9T:.-]+\+00:00\Z")]


class Unreadable(ValueError):
    """A line is no checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The trail's state behind one row. Whoever keeps it can prove later that the row was there, and which it was."""

    row_id: RowId
    head: HexDigest
    """The row's hash."""
    taken_at: UtcTime
    """ISO 8601 in UTC."""
    signature: str = ""
    """Ed25519, hex."""

    @property
    def text(self) -> bytes:
        """Return what is signed."""
        return f"octaskly audit checkpoint v1\n{self.row_id}\n{self.head}\n{self.taken_at}".encode()

    @property
    def moment(self) -> datetime:
        """Return when it was taken."""
        return datetime.fromisoformat(self.taken_at)

    def signed_with(self, key: Ed25519PrivateKey) -> Self:
        """Return it with its signature."""
        return type(self)(self.row_id, self.head, self.taken_at, key.sign(self.text).hex())

    def line(self) -> str:
        """Return it as a line of a file, without the line's end."""
        return json.dumps(asdict(self))

    @classmethod
    def of_line(cls, line: str) -> Self:
        """Return the checkpoint of a line, whose other fields say nothing here; raises Unreadable."""
        try:
            found = msgspec.json.decode(line, type=cls)
            datetime.fromisoformat(found.taken_at)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise Unreadable(line[:100]) from None
        return found


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Says that the rows of a range were removed by right, and what the last of them was."""

    first_id: int
    last_id: int
    row_count: int
    head: str
    """The hash of the last row removed."""
    removed_by: str
    removed_at: str
    """ISO 8601 in UTC."""
    signature: str = ""

    @property
    def text(self) -> bytes:
        """Return what is signed."""
        told: list[Any] = [self.first_id, self.last_id, self.row_count, self.head, self.removed_by, self.removed_at]
        return b"octaskly audit tombstone v1\n" + json.dumps(told).encode()

    def signed_with(self, key: Ed25519PrivateKey) -> Self:
        """Return it with its signature."""
        told = {**asdict(self), "signature": key.sign(self.text).hex()}
        return type(self)(**told)


@functools.lru_cache(maxsize=4096)  # Of one checkpoint there is a copy with each keeper.
def is_signed(thing: Checkpoint | Tombstone, public_key: bytes) -> bool:
    """Return whether the signature is by this Ed25519 key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(bytes.fromhex(thing.signature), thing.text)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
