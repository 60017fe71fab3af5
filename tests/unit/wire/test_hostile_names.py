"""Ten thousand hostile names: what is taken is harmless on every system, and what is hostile is not taken."""

from __future__ import annotations

import json
import ntpath
import posixpath
import sys
import unicodedata
from email.message import Message
from email.utils import collapse_rfc2231_value
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from django.utils.http import content_disposition_header

from octaskly_wire.file_names import objection_to_name
from tasks_app.submission import InvalidSubmission, read_submission
from tests.support.hostile_names import COUNT, names

NAMES = names()
TAKEN = [name for name, _ in NAMES if objection_to_name(name) is None]


def is_text(name: str) -> bool:
    """Return whether a name can stand in JSON at all."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def test_no_hostile_name_is_taken() -> None:
    """Every name of the families that hold nothing good is refused, in words that are one visible line."""
    assert len(NAMES) == COUNT
    assert [ascii(name) for name, must_refuse in NAMES if must_refuse and objection_to_name(name) is None] == []
    words = {objection for name, _ in NAMES if (objection := objection_to_name(name))}
    assert all(text.isprintable() for text in words)
    assert len(TAKEN) > COUNT // 10, "the rule would refuse everything"


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_what_is_taken_stays_inside_on_every_system(form: str) -> None:
    """As it is, and as a system sees it that takes look-alikes for the characters themselves."""
    for name in TAKEN:
        seen = unicodedata.normalize(form, name)
        for path, system in ((PurePosixPath(seen), posixpath), (PureWindowsPath(seen), ntpath)):
            assert not path.is_absolute(), ascii(name)
            assert ".." not in path.parts, ascii(name)
            assert not system.normpath(seen).startswith(("../", "..\\", "/", "\\")), ascii(name)
        if form == "NFC":
            assert seen == name
            assert not _is_reserved(name), ascii(name)
            assert ntpath.splitdrive(name)[0] == "", ascii(name)
            assert "/".join(PureWindowsPath(name).parts) == name, ascii(name)
            assert all(part == part.rstrip(". ") for part in name.split("/")), ascii(name)
            assert not {unicodedata.category(character) for character in name} & {"Cc", "Cs", "Zl", "Zp", "Cf"}, ascii(
                name
            )


def test_what_is_taken_is_a_file_of_that_name(tmp_path: Path) -> None:
    """A folder that all were written into lists exactly those that were taken, and nothing beside it."""
    inside = tmp_path / "inside"
    written = set()
    for name in TAKEN:
        path = inside / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            continue  # One name is a folder of another.
        written.add(name)
    assert {path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_file()} == written
    assert list(tmp_path.iterdir()) == [inside]
    assert len(written) > COUNT // 10


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_a_task_names_only_what_a_file_may_be_called(field: str) -> None:
    """Each hostile name is refused with the name of the field, or as no Unicode at all; each other comes back as it was."""
    for name, _ in NAMES:
        if field == "outputs" and set("*?[]") & set(name):
            continue
        body = json.dumps({"command": "true", field: [name]}).encode()
        if objection_to_name(name) is None:
            (spec,), _ = read_submission(body)
            assert getattr(spec, field) == (name,)
        elif "=sha256:" not in name:
            with pytest.raises(InvalidSubmission) as refusal:
                read_submission(body)
            assert refusal.value.field == (field if is_text(name) else ""), ascii(name)
            assert refusal.value.message.isprintable(), ascii(name)


def test_a_download_has_the_name_and_nothing_else() -> None:
    """The header that tells it is one line, and reads back as the last part of the name."""
    for name in TAKEN:
        last = name.rpartition("/")[2]
        header = content_disposition_header(as_attachment=True, filename=last)
        assert header.isascii(), ascii(name)
        assert header.isprintable(), ascii(name)
        parsed = Message()
        parsed["Content-Disposition"] = header
        assert parsed.get_content_disposition() == "attachment", ascii(name)
        assert collapse_rfc2231_value(parsed.get_param("filename", header="Content-Disposition")) == last, ascii(name)


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[2J", "\x07", "a\u202eb", "\u200b", "a\u2028b", "\x9b31m", "a\0b", "\ufeff"]
)
def test_a_task_is_called_something_visible(name: str) -> None:
    """Its name is for people, so nothing in it is invisible or steers a terminal."""
    with pytest.raises(InvalidSubmission) as refusal:
        read_submission(json.dumps({"command": "true", "name": name}).encode())
    assert refusal.value.field == "name"


def _is_reserved(name: str) -> bool:
    if sys.version_info >= (3, 13):  # Where the method of paths is on its way out.
        return ntpath.isreserved(name)
    return PureWindowsPath(name).is_reserved()
