"""Writes the golden frames of this protocol version anew. A changed frame means a new protocol version.

Usage: python scripts/bless.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from octaskly_wire.codec import Codec, encode  # noqa: E402 - the path comes first
from octaskly_wire.framing import encode_frame  # noqa: E402
from octaskly_wire.limits import PROTOCOL_VERSION  # noqa: E402
from tests.support.messages import SAMPLES  # noqa: E402


def main() -> None:
    """Write one file for each message and codec."""
    folder = ROOT / "tests" / "golden" / f"v{PROTOCOL_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    for message in SAMPLES:
        for codec, suffix in ((Codec.MSGPACK, "bin"), (Codec.JSON, "json")):
            frame = encode_frame(codec, encode(message, codec))
            (folder / f"{type(message).__name__}.{suffix}").write_bytes(frame)
    print(f"{len(SAMPLES)} messages in {folder}")


if __name__ == "__main__":
    main()
