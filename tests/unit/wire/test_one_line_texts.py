"""What a worker says of itself is one visible line, or is not taken at all."""

from __future__ import annotations

import msgspec
import pytest

from octaskly_wire.codec import Codec, decode_from_worker, encode
from octaskly_wire.errors import MalformedMessage
from octaskly_wire.messages import AttemptFinished, Enrol, Hello, Register
from tests.support.hostile_texts import FOR_TERMINALS, MARK, TEXTS, VISIBLE
from tests.support.messages import FROM_WORKER

FIELDS = [(Enrol, "name"), (Register, "name"), (Register, "platform"), (Hello, "software_version")]


def changed(kind: type, field: str, text: str) -> bytes:
    """Return a message of this kind that says this."""
    message = next(message for message in FROM_WORKER if isinstance(message, kind))
    return encode(msgspec.structs.replace(message, **{field: text}), Codec.MSGPACK)


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=str)
def test_a_text_that_would_act_is_refused(kind: type, field: str) -> None:
    """In words that name the field and do not repeat the text; what is only odd is taken as it is."""
    for text in FOR_TERMINALS:
        with pytest.raises(MalformedMessage) as refusal:
            decode_from_worker(changed(kind, field, text), Codec.MSGPACK)
        assert str(refusal.value) == f"Expected `str` of allowed characters - at `$.{field}`"
    for text in VISIBLE:
        assert getattr(decode_from_worker(changed(kind, field, text), Codec.MSGPACK), field) == text


def test_what_a_command_left_is_told_in_full() -> None:
    """The detail of an outcome may have lines; whoever shows it spells out the rest."""
    finished = next(message for message in FROM_WORKER if isinstance(message, AttemptFinished))
    for text in TEXTS:
        report = msgspec.structs.replace(finished.report, detail=text)
        told = decode_from_worker(
            encode(msgspec.structs.replace(finished, report=report), Codec.MSGPACK), Codec.MSGPACK
        )
        assert told.report.detail == text
    assert any(MARK in text for text in TEXTS)
