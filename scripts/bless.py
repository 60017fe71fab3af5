"""Writes the golden frames of this protocol version anew. A changed frame means a new protocol version.

Usage: python scripts/bless.py
       python scripts/bless.py access     the table of who may call what, instead; read what has changed in it
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from octaskly_wire.codec import Codec, encode  # noqa: E402 - the path comes first
from octaskly_wire.framing import encode_frame  # noqa: E402
from octaskly_wire.limits import PROTOCOL_VERSION  # noqa: E402
from tests.support.messages import SAMPLES  # noqa: E402


def main() -> None:
    """Write what is asked for."""
    if sys.argv[1:] == ["access"]:
        sys.exit(_ask_everything())
    _write_frames()


def _ask_everything() -> int:
    """Let the test of the table record what it finds; return its exit code."""
    test = ROOT / "tests" / "integration" / "test_access_matrix.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow", str(test)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "BLESS_ACCESS_MATRIX": "1"}, check=False).returncode


def _write_frames() -> None:
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
