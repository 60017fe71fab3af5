"""What the command line makes of its words, before any server is asked."""

from __future__ import annotations

import json

import click
import pytest

from octaskly.__main__ import main
from octaskly.answers import Task, WaitingWorker, Why
from octaskly.command_line import show, waiting
from octaskly.command_line.results import part_for
from octaskly.command_line.submit import shell_line
from octaskly.command_line.task_options import Duration, read_options
from octaskly.command_line.tree import COMMANDS, tree
from octaskly.specs import task_spec
from tests.support.programs import ROOT

NOTHING = {
    "stored": (), "outputs": (), "name": None, "env": (), "timeout": None, "priority": None, "retries": None,
    "sandbox": None, "network": False, "memory": None, "cpu_seconds": None, "processes": None, "open_files": None,
    "disk": None,
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name) -> None:
    """Its module has it, and its help begins with the sentence of the table's meaning."""
    command = tree.get_command(None, name)
    assert command is not None
    assert command.name in {name, name.replace("-", "_")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["taks"], "Did you mean task"),
        (["run"], "Missing argument"),
        (["run", "--priority", "1000", "x"], "priority"),
        (["run", "--timeout", "soon", "x"], "no duration"),
        (["run", "--env", "OCTASKLY_TEST_UNSET", "x"], "no such variable"),
        (["submit"], "octaskly submit -- COMMAND"),
        (["submit", "--file", "x", "command"], "octaskly submit -- COMMAND"),
        (["cancel"], "--all"),
        (["cancel", "--all", "123"], "--all"),
        (["retry"], "--failed"),
        (["map", "echo {3}", ":::", "a"], "{3} names list 3"),
        (["map", "--resume", "echo", ":::", "a"], "--joblog"),
        (["completion", "tcsh"], "tcsh"),
        (["tasks", "--status", "lost"], "lost"),
        (["tasks", "--watch", "--json"], "take one of them"),
        (["files", "get", "x", "--json", "-o", "-"], "both want stdout"),
    ],
)
def test_bad_usage_is_told_and_exits_with_2(arguments, message, capsys) -> None:
    """The sentence names what is wrong, and nothing is on stdout."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""


def test_the_version(capsys) -> None:
    """It is the package's."""
    from octaskly_wire import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"octaskly {__version__}\n"


def test_a_dry_run_prints_the_commands(capsys) -> None:
    """Nothing is signed in, nothing is sent."""
    assert main(["map", "--dry-run", "cp", "{1}", "{1/.}.{2}", ":::", "a b/c.d", ":::", "1", "2"]) == 0
    assert capsys.readouterr().out == "cp 'a b/c.d' c.1\ncp 'a b/c.d' c.2\n"


def test_values_without_a_command_are_commands(capsys) -> None:
    """As GNU Parallel takes them: unquoted."""
    assert main(["map", "--dry-run", ":::", "echo a", "exit 1"]) == 0
    assert capsys.readouterr().out == "echo a\nexit 1\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [(("a | b",), "a | b"), (("echo", "a b"), "echo 'a b'"), (("grep", "-v", "x;y"), "grep -v 'x;y'")],
)
def test_one_word_is_a_shell_line_and_several_are_one_command(words, line) -> None:
    """What the caller's shell has split stays split."""
    assert shell_line(words) == line


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172_800)])
def test_durations(text, seconds) -> None:
    """A number, or a number with a unit."""
    assert Duration().convert(text, None, None) == seconds


def test_what_is_not_said_is_the_servers_default() -> None:
    """An option that was not given is not in the task."""
    assert task_spec("x", read_options(dict(NOTHING))) == {"command": "x"}


def test_options_become_the_fields_of_rest() -> None:
    """Limits go together, variables become an object, and zero is something that was said."""
    options = read_options(
        {**NOTHING, "memory": 64, "cpu_seconds": 5, "env": ("A=1=2",), "priority": 0, "network": True, "timeout": 0.2}
    )
    assert task_spec("x", options, ["in=sha256:0"]) == {
        "command": "x",
        "env": {"A": "1=2"},
        "timeout": 1,
        "priority": 0,
        "network": True,
        "limits": {"memory_mb": 64, "cpu_seconds": 5},
        "inputs": ["in=sha256:0"],
    }


def test_an_unknown_option_of_a_program_is_an_error() -> None:
    """A typing mistake is not passed over."""
    with pytest.raises(TypeError, match="memry"):
        task_spec("x", {"memry": 1})


@pytest.mark.parametrize(
    ("value", "part"), [("a/b", "a\\_b"), ("..", "\\.."), ("", "\\"), ("a\\b\t", "a\\\\b\\t"), ("plain", "plain")]
)
def test_a_value_as_a_folder_of_results(value, part) -> None:
    """It leads nowhere else."""
    assert part_for(value) == part


def test_long_values_stay_apart() -> None:
    """Two that differ at their ends have two folders, and a name that file systems take."""
    first, second = part_for("x" * 5000 + "1"), part_for("x" * 5000 + "2")
    assert first != second
    assert len(first.encode()) < 255


WITHOUT_JSON = {"completion", "dispatcher", "worker", "manage"}


def client_commands() -> dict[str, click.Command]:
    """Return all commands that speak with a server, those below a group, too."""
    found = {name: tree.get_command(None, name) for name in COMMANDS if name not in WITHOUT_JSON}
    below = {
        f"{name} {part}": command
        for name, group in found.items()
        for part, command in getattr(group, "commands", {}).items()
    }
    return found | below


@pytest.mark.parametrize("name", client_commands())
def test_every_command_speaks_json(name) -> None:
    """A program may call any of them; only scripts for shells and the programs themselves have no use for it."""
    flags = {flag for part in client_commands()[name].params for flag in part.opts}
    assert "--json" in flags


def test_json_that_is_asked_of_a_group_is_its_commands() -> None:
    """`octaskly files --json ls` is `octaskly files ls --json`."""
    group = client_commands()["files"]
    context = group.make_context("files", ["--json", "ls"])
    command = client_commands()["files ls"]
    assert command.make_context("ls", [], parent=context).params["as_json"] is True
    assert command.make_context("ls", []).params["as_json"] is False


@pytest.mark.parametrize("name", ["", *client_commands(), "completion"])
def test_help_shows_no_marks(name, capsys) -> None:
    """What keeps lines apart in a help text is not itself shown."""
    assert main([*name.split(), "--help"]) == 0
    assert "\\b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "There is no worker"),
        (["draining"], "w0: draining"),
        (["all 4 slots busy", "draining", "all 4 slots busy"], "2 workers: all 4 slots busy; w1: draining"),
        (["a", "b", "c", "d", "e"], "w0: a; w1: b; w2: c; and 2 more reasons"),
    ],
)
def test_why_nothing_runs_is_one_sentence(found, said) -> None:
    """Workers with the same reason are counted, the first reasons said; without any the server's sentence stands."""
    workers = [WaitingWorker(worker_id=f"{n}", name=f"w{n}", reason=reason) for n, reason in enumerate(found)]
    text = waiting.sentence(Why(status="queued", message="There is no worker.", workers=workers), "123")
    assert text == f"Nothing runs yet: {said}. Look: octaskly why 123"


def test_each_warning_is_told_once_and_of_many_the_first(capsys) -> None:
    """A list of tasks with the same needs has one line on stderr, with the first task's id."""
    warner = waiting.Warner()
    for _ in range(2):
        warner.tell(Task(id=f"t{n}", command="true", status="queued", warnings=["No worker."]) for n in range(3))
    assert capsys.readouterr().err == "octaskly: Warning: No worker. Look: octaskly why t0\n"
    warner.tell([Task(id="t", command="true", status="queued", warnings=[f"{n}" for n in range(20)])])
    assert capsys.readouterr().err.count("Warning") == waiting.MOST_WARNINGS - 1


def test_json_of_what_is_no_unicode() -> None:
    """Names of files here may hold any bytes; a line of JSON never does."""
    assert json.loads(show.json_line({"values": ("a\udcff",)})) == {"values": ["a\udcff"]}


def flags_of(command: click.Command) -> set[str]:
    """Return the long flags of a command and of those below it."""
    flags = {flag for part in command.params for flag in part.opts if flag.startswith("--")}
    below = getattr(command, "commands", {}).values()
    return flags.union(*(flags_of(part) for part in below))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_flag_is_on_the_page(name) -> None:
    """docs/cli.md names them all."""
    page = (ROOT / "docs/cli.md").read_text()
    assert f"`{name}`" in page or f"`{name} " in page
    missing = {flag for flag in flags_of(tree.get_command(None, name)) if f"{flag}" not in page}
    assert missing == set()
