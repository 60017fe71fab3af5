"""QUIC connections whose streams read and write as those of asyncio do; knows nothing of messages."""
