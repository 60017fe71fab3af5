"""Output as a task row shows it."""

from __future__ import annotations

from tasks_app.output_text import SHOWN_BYTES, shown_text


def test_short_output_is_whole():
    """Nothing is left out of what fits."""
    assert shown_text(b"hello\n", is_truncated=False) == ("hello\n", False)


def test_bytes_that_are_no_text_are_replaced():
    """Neither invalid UTF-8 nor NUL gets into the text column."""
    assert shown_text(b"a\xff\0b", is_truncated=False) == ("a\ufffd\ufffdb", False)


def test_long_output_keeps_head_and_tail():
    """The gap is marked with its size, and the flag says so."""
    data = b"h" * SHOWN_BYTES + b"m" * 10 + b"t" * SHOWN_BYTES
    text, is_truncated = shown_text(data, is_truncated=False)
    assert is_truncated
    assert text.startswith("h" * (SHOWN_BYTES // 2))
    assert text.endswith("t" * (SHOWN_BYTES // 2))
    assert f"{len(data) - SHOWN_BYTES} bytes left out" in text


def test_what_the_worker_cut_stays_cut():
    """The worker's own truncation is passed on."""
    assert shown_text(b"x", is_truncated=True)[1]
