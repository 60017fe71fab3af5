"""`octaskly wait`, `cancel` and `retry`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from octaskly.command_line.connect import client as connect
from octaskly.command_line.show import is_terminal, json_option, print_json, tell
from octaskly.command_line.task_options import Duration
from octaskly.errors import WaitedTooLong
from octaskly.flows.tasks import MAX_STEPPED

if TYPE_CHECKING:
    from octaskly.answers import Stepped
    from octaskly.client import Client

TIMED_OUT = 124


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.option("--name", metavar="TEXT", help="All tasks with this label.")
@click.option("--timeout", type=Duration(), metavar="TIME", help="At most this long: 90, 10m, 2h.")
@json_option
def wait(task_ids: tuple[str, ...], *, name: str | None, timeout: float | None, as_json: bool) -> int:
    """Wait until tasks have ended. Exits with 0 when all completed, 1 when some did not, 124 at the time-out."""
    with connect() as client:
        wanted = [client.find_task(text).id for text in task_ids]
        if name:
            wanted += [task.id for task in client.tasks(name=name)]
        if not wanted:
            raise click.UsageError("Name tasks by id, or by --name." if not name else f"There is no task named {name}.")
        all_ok = True
        try:
            for task in client.as_ended(dict.fromkeys(wanted), timeout):
                all_ok = all_ok and task.ok
                if as_json:
                    print_json(task)
                else:
                    click.echo(
                        f"{task.id}\t{task.status}" + (f"\t{task.failure_reason}" if task.failure_reason else "")
                    )
                sys.stdout.flush()
        except WaitedTooLong as error:
            tell(str(error))
            return TIMED_OUT
    return 0 if all_ok else 1


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "wants_all", is_flag=True, help="All of yours that have not ended.")
@click.option("--name", metavar="TEXT", help="All that have not ended, with this label.")
@click.option("--owner", metavar="USER", help="With --all or --name: of this user.")
@click.option("--everyone", is_flag=True, help="With --all or --name: of every user.")
@json_option
def cancel(
    task_ids: tuple[str, ...], *, wants_all: bool, name: str | None, owner: str | None, everyone: bool, as_json: bool
) -> int:
    """Cancel tasks; a running command is killed with all its processes."""
    if bool(task_ids) == bool(wants_all or name):
        raise click.UsageError("Name tasks by id, or say --all or --name.")
    with connect() as client:
        if task_ids:
            wanted = [client.find_task(text).id for text in task_ids]
        else:
            whose = _whose(client, owner, everyone=everyone)
            # What waits first: what runs would only make room for it.
            wanted = [
                task.id
                for status in ("queued", "running")
                for task in client.tasks(status=status, name=name, owner=whose)
            ]
        return _each(wanted, client.cancel_many, "cancelled", as_json=as_json, skips_others=not task_ids)


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.option("--failed", is_flag=True, help="All of yours that failed.")
@click.option("--name", metavar="TEXT", help="With --failed: those with this label.")
@click.option("--owner", metavar="USER", help="With --failed: of this user.")
@click.option("--everyone", is_flag=True, help="With --failed: of every user.")
@json_option
def retry(
    task_ids: tuple[str, ...], *, failed: bool, name: str | None, owner: str | None, everyone: bool, as_json: bool
) -> int:
    """Queue ended tasks again."""
    if bool(task_ids) == failed:
        raise click.UsageError("Name tasks by id, or say --failed.")
    with connect() as client:
        if task_ids:
            wanted = [client.find_task(text).id for text in task_ids]
        else:
            whose = _whose(client, owner, everyone=everyone)
            wanted = [task.id for task in client.tasks(status="failed", name=name, owner=whose)]
        return _each(wanted, client.retry_many, "queued again", as_json=as_json, skips_others=not task_ids)


def _whose(client: Client, owner: str | None, *, everyone: bool) -> str | None:
    """Return the user whose tasks are meant; None for all that can be seen."""
    from octaskly.session import claims_of

    if owner or everyone:
        return owner
    login = client.session.login
    if login.username:
        return login.username
    if claims_of(login.access).get("role") == "Client":
        return None  # Sees no others.
    raise click.UsageError("A token does not tell whose it is. Say --owner USER, or --everyone.")


def _each(
    task_ids: list[str],
    step: Callable[[Sequence[str]], Stepped],
    done: str,
    *,
    as_json: bool,
    skips_others: bool,
) -> int:
    """Take the step, a list at a time, and print which took it; those that could not are told unless only guessed."""
    if not task_ids:
        tell("There are no such tasks")
        return 0
    count = failures = 0
    for start in range(0, len(task_ids), MAX_STEPPED):
        stepped = step(task_ids[start : start + MAX_STEPPED])
        for task in stepped.tasks:
            if as_json:
                print_json(task)
            elif not is_terminal():
                click.echo(task.id)
        count += len(stepped.tasks)
        for refused in [] if skips_others else stepped.not_possible:
            tell(f"{refused.id}: {refused.reason}")
            failures += 1
    if is_terminal() and not as_json:
        click.echo(f"{count} {'task' if count == 1 else 'tasks'} {done}.")
    return 1 if failures else 0
