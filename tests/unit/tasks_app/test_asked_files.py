"""Which inputs and outputs a task may ask for."""

from __future__ import annotations

import pytest

from octaskly_wire.limits import MAX_INPUTS, MAX_OUTPUT_PATTERNS
from tasks_app.asked_files import NotAllowed, check_inputs, check_outputs, is_digest, read_input

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.txt", ("a.txt", None)),
        ("a=b.txt", ("a=b.txt", None)),
        ("a=sha256", ("a=sha256", None)),
        (f"in/a.txt=sha256:{DIGEST}", ("in/a.txt", DIGEST)),
        (f"a=b=sha256:{DIGEST}", ("a=b", DIGEST)),
        ("a=sha256:", ("a", "")),
    ],
)
def test_an_input_is_a_name_or_a_name_with_a_content(text, expected):
    """The digest begins behind the mark, and names may have the sign of equality."""
    assert read_input(text) == expected


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        ([""], "empty"),
        (["/etc/passwd"], "relative"),
        (["a/../b"], "'..'"),
        (["a\\b"], "backslash"),
        ([f"sha256:{DIGEST}"], "colon"),
        ([f"../a=sha256:{DIGEST}"], "'..'"),
        (["a=sha256:"], "64 hexadecimal"),
        ([f"a=sha256:{DIGEST.upper()}"], "lower case"),
        ([f"a=sha256:{DIGEST}0"], "64 hexadecimal"),
        ([f"a=sha256:{DIGEST}\n"], "64 hexadecimal"),
        ([f"a=sha256:{DIGEST}=sha256:{DIGEST}"], "64 hexadecimal"),
        (["a", "b", "a"], "'a' is there twice"),
        (["Read.me", "read.ME"], "twice"),
        (["a", f"a=sha256:{DIGEST}"], "twice"),
        (["a/b/c", "A/b"], "'A/b' is a file"),
        (["a", "x", "a/b"], "needs a folder where 'a' is a file"),
        ([f"f{number}" for number in range(MAX_INPUTS + 1)], f"at most {MAX_INPUTS}"),
    ],
)
def test_hostile_and_senseless_inputs_are_refused(inputs, cause):
    """Each with its cause in plain words."""
    with pytest.raises(NotAllowed) as refusal:
        check_inputs(inputs)
    assert cause in str(refusal.value)


@pytest.mark.parametrize(
    ("outputs", "cause"),
    [
        (["a/../*"], "'..'"),
        (["/tmp/*"], "relative"),
        (["*.png", "*.PNG"], "twice"),
        ([f"f{number}" for number in range(MAX_OUTPUT_PATTERNS + 1)], f"at most {MAX_OUTPUT_PATTERNS}"),
    ],
)
def test_hostile_and_senseless_outputs_are_refused(outputs, cause):
    """The same rules, with globs."""
    with pytest.raises(NotAllowed) as refusal:
        check_outputs(outputs)
    assert cause in str(refusal.value)


def test_what_is_shown_of_a_refused_name_is_short_and_visible():
    """A name of a megabyte, or one with control characters, does no harm where the error is read."""
    with pytest.raises(NotAllowed) as refusal:
        check_inputs(["\x1b[2J" + "x" * (1 << 20)])
    assert len(str(refusal.value)) < 300
    assert "\x1b" not in str(refusal.value)


def test_ordinary_files_are_allowed():
    """Folders, spaces, other scripts, globs over folders; outputs may be called like inputs."""
    check_inputs(["a/b", "a/c", "ab", "mein Bild.png", "日本/語.txt", f"x=sha256:{DIGEST}"])
    check_outputs(["a/b", "out/**/*.png", "[a-z]?.txt"])
    check_inputs([])
    check_outputs([])


@pytest.mark.parametrize("text", ["", DIGEST[1:], DIGEST + "0", DIGEST.upper(), DIGEST[:-1] + "g", DIGEST + "\n"])
def test_what_is_no_digest(text):
    """Only 64 lower-case hexadecimal digits are one."""
    assert not is_digest(text)
    assert is_digest(DIGEST)
