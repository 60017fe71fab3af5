"""The protocol between dispatcher and workers: messages, codec, framing, identity. No I/O."""

from __future__ import annotations

__version__ = "0.1.0"
"""Of all of Octaskly. It stands here since every package may import this one; packaging reads it from here, too."""
