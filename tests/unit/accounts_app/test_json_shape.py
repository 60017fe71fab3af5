"""The shape of JSON is looked at before it is decoded: depth, keys there twice, and how much there is."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts_app.rest.json_shape import MAX_DEPTH, MAX_KEYS, MAX_PARTS, BadShape, check_shape

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_what_has_no_key_twice_is_taken(value, is_ascii, indent) -> None:
    """However it is written: texts full of quotes, brackets and colons are texts."""
    check_shape(json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a" : 1, "b": {"c": 1}, "a"\\n:2}'.replace("\\n", "\n"),
        '[{"x":"{","a":[1,{"a":1}],"a":2}]',
        '{"a":1,"\\u0061":2}',
        '{"\\"":1,"\\u0022":2}',
        '{"é":1,"\\u00e9":2}',
        '{"a\\\\":"b","a\\\\":"c"}',
    ],
)
def test_a_key_twice_is_told(text) -> None:
    """Wherever it is, and however it is written."""
    json.loads(text)
    with pytest.raises(BadShape, match="twice"):
        check_shape(text.encode())


@pytest.mark.parametrize(
    "text", ['{"a":{"a":1},"b":[{"a":1},{"a":1}]}', '{"a":"a","A":1}', '["a","a"]', '{"a\\"":1,"a":2}']
)
def test_the_same_key_elsewhere_is_another(text) -> None:
    """In another object, in another case, or as a value."""
    check_shape(text.encode())


@pytest.mark.parametrize("text", ['{"a":1', '{"a":1}}', "{'a':1}", "[1,]", '"a', "", '{"a":"\\u12"}'])
def test_what_is_no_json_is_told(text) -> None:
    """So that nothing passes that was not read to its end."""
    with pytest.raises(BadShape, match="is not JSON"):
        check_shape(text.encode())


@given(st.lists(st.sampled_from(["{", "}", "[", "]", ",", ":", '"', "\\", '"a"', "1", "-0.5e7", "null", " ", "\n"])))
def test_what_the_decoder_takes_is_read(parts) -> None:
    """The decoder takes nothing that is called no JSON here."""
    text = "".join(parts).encode()
    with suppress(msgspec.DecodeError):
        msgspec.json.decode(text)
        with suppress(BadShape):
            check_shape(text)
            return
        with pytest.raises(BadShape, match="twice"):
            check_shape(text)


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_depth_has_an_end(opened, closed) -> None:
    """At most so many levels, and a hundred thousand are refused without looking at them all."""
    check_shape((opened * MAX_DEPTH + "1" + closed * MAX_DEPTH).encode())
    with pytest.raises(BadShape, match="levels"):
        check_shape((opened * (MAX_DEPTH + 1) + "1" + closed * (MAX_DEPTH + 1)).encode())
    with pytest.raises(BadShape, match="levels"):
        check_shape(opened.encode() * 100_000)


def test_there_may_be_much_but_not_without_end() -> None:
    """Of keys in an object, and of values in all."""
    with pytest.raises(BadShape, match=f"{MAX_KEYS} keys"):
        check_shape(json.dumps(dict.fromkeys(map(str, range(MAX_KEYS + 1)))).encode())
    with pytest.raises(BadShape, match=f"{MAX_PARTS} keys and values"):
        check_shape(b"[" + b"1," * MAX_PARTS + b"1]")


@pytest.mark.parametrize(
    "text",
    [b'"' + b"\\" * 1_000_000, b'"a' * 300_000, b'"' * 500_001, b'{"a"' + b" " * 1_000_000, (b'"a"' + b" " * 500) * 2000, b"}]" * 200_000],
    ids=["escapes", "quotes and letters", "quotes", "blanks", "texts and blanks", "ends"],
)  # fmt: skip
def test_no_text_takes_long(text) -> None:
    """Not even one made for the expression that reads it: time grows with the length, and no faster."""
    began = time.process_time()
    with suppress(BadShape):
        check_shape(text)
    assert time.process_time() - began < 2
