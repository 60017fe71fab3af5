"""Replacement strings against what GNU Parallel makes of them."""

from __future__ import annotations

import shlex

import pytest

from octaskly import templates

VALUE = "photos/my cat.tar.gz"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("{}", "photos/my cat.tar.gz"),
        ("{.}", "photos/my cat.tar"),
        ("{/}", "my cat.tar.gz"),
        ("{//}", "photos"),
        ("{/.}", "my cat.tar"),
        ("{#}", "7"),
        ("{1}", "photos/my cat.tar.gz"),
        ("{1/.}", "my cat.tar"),
        ("{2}", "{2}"),
        ("{x}", "{x}"),
        ("{ }", "{ }"),
    ],
)
def test_each_field_takes_its_part_of_the_value(field, expected) -> None:
    """A field becomes its part; what is no field, or names a list that there is not, stays."""
    assert templates.filled_plainly(field, [VALUE], 7) == expected


@pytest.mark.parametrize(
    ("value", "without_extension", "last", "folder"),
    [
        ("plain", "plain", "plain", "."),
        ("/a", "/a", "a", "/"),
        ("/a/b.c", "/a/b", "b.c", "/a"),
        (".hidden", "", ".hidden", "."),
        ("d.ir/file", "d.ir/file", "file", "d.ir"),
        ("a//b.x", "a//b", "b.x", "a"),
        ("", "", "", "."),
    ],
)
def test_parts_of_odd_values(value, without_extension, last, folder) -> None:
    """Names without extension, without folder, hidden ones and the root come apart as in Parallel."""
    assert templates.filled_plainly("{.}|{/}|{//}", [value], 1) == f"{without_extension}|{last}|{folder}"


@pytest.mark.parametrize("value", ["a b", "it's", "$HOME", "`id`", "", "a\nb", "-n", "*", "ä;\u2028"])
def test_the_shell_reads_each_value_as_one_word(value) -> None:
    """Whatever the value holds, a shell that splits the command finds it again, whole."""
    assert shlex.split(templates.filled("cmd {} {.}x", [value], 1))[1] == value


def test_a_value_that_looks_like_a_field_is_not_filled_again() -> None:
    """What a value brings is text."""
    assert templates.filled_plainly("{} {1}", ["{#}"], 3) == "{#} {#}"


def test_several_lists() -> None:
    """`{}` is all values, each quoted; numbers choose one."""
    assert templates.filled("cp {} # {2} {1/}", ["x/a b", "c"], 1) == "cp 'x/a b' c # c 'a b'"


@pytest.mark.parametrize(
    ("given", "expected"), [("wc -l", "wc -l {}"), ("echo {#}", "echo {#}"), ("a {x}", "a {x} {}")]
)
def test_a_template_without_fields_gets_the_value_at_its_end(given, expected) -> None:
    """So `octaskly map wc -l` counts each file."""
    assert templates.with_field(given) == expected


def test_the_last_list_changes_fastest() -> None:
    """Combinations come in Parallel's order."""
    assert list(templates.combinations([["a", "b"], ["1", "2"]])) == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]


def test_lists_are_told_from_the_command() -> None:
    """Each `:::` begins a list, which may be empty."""
    assert templates.split_lists(["echo", "{}", ":::", "a", "b", ":::", ":::", "c"]) == (
        ["echo", "{}"],
        [["a", "b"], [], ["c"]],
    )


def test_the_highest_place() -> None:
    """Places are counted wherever their parts are."""
    assert [templates.highest_place(text) for text in ("{}", "{1} {12/.}", "{#}")] == [0, 12, 0]
