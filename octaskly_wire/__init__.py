"""The protocol between dispatcher and workers: messages, codec, framing, identity. No I/O."""
