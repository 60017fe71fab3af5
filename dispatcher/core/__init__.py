"""Decisions without I/O: state + event + now -> effects."""
