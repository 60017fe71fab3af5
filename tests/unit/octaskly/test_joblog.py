"""The joblog: GNU Parallel's columns, read back, and what a crash leaves of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from octaskly import joblog
from octaskly.errors import BadFile

LINE = joblog.Line(
    number=2,
    host="w1",
    started_at=1389363842.2314,
    duration_s=0.0049,
    sent_bytes=5,
    received_bytes=7,
    exit_code=1,
    signal=0,
    command="echo a\tb\nexit 1",
)


def written(path: Path, *lines: joblog.Line) -> Path:
    """Return a log that holds these lines."""
    with joblog.open_for_more(path, keeps=False) as file:
        file.writelines(line.text() + "\n" for line in lines)
    return path


def test_a_line_has_parallels_columns() -> None:
    """Times have three digits, the run time ten columns, a line break is NUL."""
    assert LINE.text() == "2\tw1\t1389363842.231\t     0.005\t5\t7\t1\t0\techo a\tb\0exit 1"


def test_what_was_written_is_read(tmp_path) -> None:
    """The command comes back with its tabs and line breaks."""
    found = joblog.read(written(tmp_path / "log", LINE))
    assert (found[2].command, found[2].exit_code, found[2].ok) == (LINE.command, 1, False)


def test_a_log_of_parallel_is_read(tmp_path) -> None:
    """A line that GNU Parallel wrote is understood."""
    path = tmp_path / "log"
    path.write_text(joblog.HEADER + "\n1\t:\t1389363842.231\t     0.001\t0\t0\t0\t9\techo 1\n")
    assert [(line.host, line.signal, line.ok) for line in joblog.read(path).values()] == [(":", 9, False)]


def test_no_log_is_an_empty_one(tmp_path) -> None:
    """A first run resumes from nothing."""
    assert joblog.read(tmp_path / "none") == {}


def test_a_torn_line_does_not_count_and_goes_when_more_is_written(tmp_path) -> None:
    """What a crash cut off is run again."""
    path = written(tmp_path / "log", LINE)
    path.write_text(path.read_text() + "3\tw1\t13893")
    assert list(joblog.read(path)) == [2]
    with joblog.open_for_more(path, keeps=True) as file:
        file.write(LINE.text().replace("2\t", "3\t", 1) + "\n")
    assert list(joblog.read(path)) == [2, 3]


def test_a_log_begins_anew_unless_it_is_kept(tmp_path) -> None:
    """Without resuming, old lines would lie."""
    path = written(tmp_path / "log", LINE)
    joblog.open_for_more(path, keeps=False).close()
    assert joblog.read(path) == {}


@pytest.mark.parametrize(
    "text", ["hello\n", joblog.HEADER + "\nnot a line\n", joblog.HEADER + "\n1\t:\tx\t1\t0\t0\t0\t0\tc\n"]
)
def test_what_is_no_joblog_is_refused(tmp_path, text) -> None:
    """A file of something else is not overlooked."""
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(BadFile):
        joblog.read(path)
