"""Which names a file may have, and how hostile ones are turned down."""

from __future__ import annotations

import pytest

from octaskly_wire.file_names import first_double, objection_to_name, objection_to_pattern

GOOD = [
    "a", "a.txt", "scenes/cat.blend", ".hidden", "..a", "ünïcode/日本語.txt", "with space.txt", "-rf", "~",
    "con-tent", "null", "common", "$HOME", "a;b", "x" * 255, "/".join("abcdefghijklmnop"), "#1", "%2e%2e", "{a,b}", "!",
]  # fmt: skip
HOSTILE = {
    "": "must not be empty",
    "/etc/passwd": "relative",
    "../up": "part '..'",
    "a/../../b": "part '..'",
    "..": "part '..'",
    "./a": "part '.'",
    "a//b": "empty part",
    "a/": "empty part",
    "..\\up": "a backslash",
    "C:/boot.ini": "a colon",
    "a.txt:stream": "a colon",
    "a\0b": "U+0000",
    "a\nb": "U+000A",
    "a\x1b[2J": "U+001B",
    "a\x7f": "U+007F",
    "a\x85": "U+0085",
    "gpj.\u202eexe": "U+202E",
    "a\u2066b": "U+2066",
    "\ud800": "not valid Unicode",
    "e\u0301": "composed form",
    "a.": "dot or a space",
    "a ": "dot or a space",
    "dir. /a": "dot or a space",
    " a": "begins with a space",
    "CON": "Windows reserves",
    "nul.txt": "Windows reserves",
    "a/Com1.log": "Windows reserves",
    "lpt9": "Windows reserves",
    "a*": "must not contain *",
    "a?": "must not contain ?",
    "a[1]": "must not contain [",
    'a"b': "a quotation mark",
    "a|b": "must not contain |",
    "<a": "must not contain <",
    "x" * 256: "255 bytes in a part",
    "é" * 128: "255 bytes in a part",
    "/".join("abcdefghijklmnopq"): "16 parts",
    "/".join(["x" * 250] * 5): "1024 bytes",
}


@pytest.mark.parametrize("name", GOOD)
def test_ordinary_names_are_taken(name):
    """Whatever stays inside a folder on every system is a name."""
    assert objection_to_name(name) is None


@pytest.mark.parametrize(("name", "why"), HOSTILE.items(), ids=[ascii(name)[:30] for name in HOSTILE])
def test_hostile_names_are_refused(name, why):
    """With words that tell what to change."""
    assert why in objection_to_name(name)


@pytest.mark.parametrize("pattern", ["*", "*.png", "**/*.exr", "frame-[0-9]?.png", "plain.txt"])
def test_patterns_may_have_globs(pattern):
    """An output may be named by what it looks like."""
    assert objection_to_pattern(pattern) is None


@pytest.mark.parametrize("pattern", ["", "/*", "../*", "a/../*", "*\\*", "a*.", "*\0"])
def test_a_glob_leads_nowhere_else(pattern):
    """All other rules hold for patterns too."""
    assert objection_to_pattern(pattern) is not None


@pytest.mark.parametrize(
    ("names", "double"),
    [
        ([], None),
        (["a", "b/a"], None),
        (["a", "b", "a"], "a"),
        (["Read.me", "read.ME"], "read.ME"),
        (["ß", "SS"], "SS"),
    ],
)
def test_names_that_one_system_takes_for_the_same_are_doubles(names, double):
    """Two files must not become one where case does not count."""
    assert first_double(names) == double
