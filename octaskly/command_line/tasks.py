"""`octaskly tasks`, `task` and `why`."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import click

from octaskly.command_line.connect import client as connect
from octaskly.command_line.show import (
    age_column,
    ago,
    clock,
    console,
    duration,
    fields,
    is_terminal,
    json_option,
    print_json,
    rich_table,
    size,
    table,
)
from octaskly.command_line.waiting import grouped

if TYPE_CHECKING:
    from octaskly.answers import Task
    from octaskly.client import Client

STATUSES = ("queued", "running", "completed", "failed", "cancelled")
REFRESH_S = 2.0
_SHOWN_COMMAND = 200


@click.command()
@click.option("--status", type=click.Choice(STATUSES), help="In this state.")
@click.option("--name", metavar="TEXT", help="With this label.")
@click.option("--worker", metavar="NAME", help="On this worker.")
@click.option("--owner", metavar="USER", help="Of this user.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, newest first.")
@click.option("--watch", is_flag=True, help="Show them anew every two seconds.")
@json_option
def tasks(*, worker: str | None, limit: int, watch: bool, as_json: bool, **filters: str | None) -> None:
    """List tasks, newest first. With --json a line each."""
    with connect() as client:
        worker_id = client.find_worker(worker).id if worker else None

        def found() -> list[Task]:
            return list(client.tasks(worker_id=worker_id, limit=limit, **filters))

        if watch and as_json:
            raise click.UsageError("--watch is for people, --json for programs: take one of them.")
        if watch:
            _watch(found)
        elif as_json:
            for task in found():
                print_json(task)
        else:
            table(_columns(), map(_row, found()), empty="There are no such tasks.")


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def task(task_id: str, *, as_json: bool) -> None:
    """Show one task. ID may be the beginning or the end of an id."""
    with connect() as client:
        found = client.find_task(task_id)
        if as_json:
            print_json(found)
            return
        fields(_details(found))
        _show_attempts(client, found)


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def why(task_id: str, *, as_json: bool) -> None:
    """Say why a task waits, worker by worker."""
    with connect() as client:
        answer = client.why(client.find_task(task_id).id)
    if as_json:
        print_json(answer)
        return
    click.echo(answer.message)
    if answer.workers:
        table(("WORKER", "REASON"), grouped(answer.workers))


def _columns() -> tuple[str, ...]:
    return ("ID", "STATUS", "NAME", age_column(), "TIME", "COMMAND")


def _row(task: Task) -> tuple[str, ...]:
    return (
        task.id,
        task.status,
        task.name,
        ago(task.created_at),
        duration(task.duration_ms),
        task.command[:_SHOWN_COMMAND],
    )


def _watch(found: Any) -> None:
    if not is_terminal():
        raise click.UsageError("--watch is for a terminal. In a script: octaskly wait, or octaskly tasks --json")
    from rich.live import Live

    with Live(console=console(), screen=True, auto_refresh=False) as live:
        for _ in itertools.count():
            live.update(rich_table(_columns(), map(_row, found())), refresh=True)
            time.sleep(REFRESH_S)


def _details(task: Task) -> list[tuple[str, str]]:
    limits = ", ".join(f"{name} {value}" for name, value in task.limits.items() if value is not None)
    return [
        ("id", task.id),
        ("name", task.name),
        ("command", task.command),
        ("status", task.status),
        ("failure", task.failure_reason or ""),
        ("exit code", "" if task.exit_code is None else str(task.exit_code)),
        ("owner", task.owner),
        ("worker", task.worker_id or ""),
        ("created", clock(task.created_at)),
        ("started", clock(task.started_at)),
        ("completed", clock(task.completed_at)),
        ("took", duration(task.duration_ms)),
        ("priority", str(task.priority)),
        ("timeout", f"{task.timeout} s"),
        ("retries", str(task.max_retries)),
        ("sandbox", task.sandbox + (", with network" if task.network else "")),
        ("limits", limits),
        ("env", " ".join(f"{name}={value}" for name, value in task.env.items())),
        ("inputs", " ".join(name.partition("=sha256:")[0] for name in task.inputs)),
        ("outputs", " ".join(task.outputs)),
    ]


def _show_attempts(client: Client, task: Task) -> None:
    attempts = client.attempts(task.id)
    if task.outputs and task.has_ended:
        files = client.outputs(task.id)
        click.echo()
        table(("FILE", "SIZE"), ((file.name, size(file.size)) for file in files), empty="It left no files.")
    if len(attempts) > 1 or any(attempt.detail for attempt in attempts):
        click.echo()
        table(
            ("ATTEMPT", "OUTCOME", "REASON", "TIME", "WORKER", "DETAIL"),
            (
                (
                    str(attempt.attempt),
                    attempt.outcome or attempt.state,
                    attempt.failure_reason or "",
                    duration(attempt.duration_ms),
                    attempt.worker_id,
                    attempt.detail,
                )
                for attempt in attempts
            ),
        )
