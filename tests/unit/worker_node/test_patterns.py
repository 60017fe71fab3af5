"""Globs of outputs."""

from __future__ import annotations

import pytest

from worker_node.sandbox.patterns import Pattern, is_glob


def matches(pattern: str, name: str) -> bool:
    """Follow a pattern along a name."""
    compiled = Pattern(pattern)
    place = compiled.start
    for part in name.split("/"):
        if not compiled.goes_on(place):
            return False
        place = compiled.after(place, part)
    return compiled.is_end(place)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.png", "a.png"),
        ("frame-??.png", "frame-07.png"),
        ("[ab].txt", "b.txt"),
        ("[!a].txt", "b.txt"),
        ("renders/*.png", "renders/1.png"),
        ("*/*", "renders/1.png"),
        ("**/*.png", "1.png"),
        ("**/*.png", "a/b/c/1.png"),
        ("a/**/z", "a/z"),
        ("a/**/z", "a/b/c/z"),
        ("a/**/b/**/z", "a/b/b/z"),
        ("**", "a/b"),
        ("a/**", "a/b/c"),
        (".*", ".hidden"),
        ("**/.cache/*", "a/.cache/x"),
        ("*", "a\nb"),
        ("*", "Größe"),
    ],
)
def test_a_glob_matches(pattern, name):
    """Within a part, over folders, and hidden names where it says so."""
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.png", "a.jpg"),
        ("*.png", "renders/a.png"),
        ("*", "a/b"),
        ("renders/*.png", "other/1.png"),
        ("renders/*.png", "renders/deep/1.png"),
        ("a/**/z", "b/z"),
        ("a/**", "a"),
        ("*", ".hidden"),
        ("**", ".git/config"),
        ("**/*", "a/.hidden"),
        ("?", ""),
        ("A*", "a"),
        ("[.]x", ".x"),
    ],
)
def test_a_glob_does_not_match(pattern, name):
    """A star stays within its part, and what begins with a dot is left alone."""
    assert not matches(pattern, name)


def test_a_folder_in_which_nothing_can_match_is_not_entered():
    """So that a huge tree beside the outputs costs nothing."""
    pattern = Pattern("renders/*.png")
    assert not pattern.after(pattern.start, "node_modules")
    assert not pattern.goes_on(pattern.after(pattern.after(pattern.start, "renders"), "1.png"))


def test_many_stars_take_no_time():
    """A pattern that would send a naive search astray ends at once."""
    assert not matches("/".join(["**"] * 8 + ["*a" * 30 + "b"]), "/".join(["a" * 200] * 15))


@pytest.mark.parametrize(("pattern", "expected"), [("a/b.txt", False), ("a/*", True), ("a?", True), ("[a]", True)])
def test_a_plain_name_is_no_glob(pattern, expected):
    """Each of the three marks makes one."""
    assert is_glob(pattern) is expected
