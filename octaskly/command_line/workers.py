"""`octaskly workers`, `join-token` and `stats`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from octaskly.command_line.connect import client as connect
from octaskly.command_line.show import ago, clock, fields, json_option, print_json, size, table
from octaskly.command_line.task_options import Duration

if TYPE_CHECKING:
    from octaskly.answers import Worker


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def workers(ctx: click.Context, *, as_json: bool) -> None:
    """List workers; or approve, suspend, revoke, drain or resume one, by name, id or the beginning of an id."""
    if ctx.invoked_subcommand is not None:
        return
    with connect() as client:
        found = client.workers()
    if as_json:
        for worker in found:
            print_json(worker)
        return
    table(
        ("ID", "NAME", "STATUS", "SLOTS", "MEMORY", "SANDBOX", "SEEN"),
        map(_row, found),
        empty="There is no worker. Join a machine: octaskly join-token",
    )


@workers.command()
@click.argument("worker")
@json_option
def show(worker: str, *, as_json: bool) -> None:
    """Show one worker."""
    with connect() as client:
        found = client.find_worker(worker)
    if as_json:
        print_json(found)
    else:
        fields(_details(found))


def _step(name: str, text: str, *, takes_reason: bool) -> None:
    @workers.command(name, help=text)
    @click.argument("worker", nargs=-1, required=True)
    @click.option("--reason", default="", metavar="TEXT", hidden=not takes_reason, help="Kept in the audit.")
    @json_option
    def command(worker: tuple[str, ...], *, reason: str, as_json: bool) -> None:
        with connect() as client:
            for one in worker:
                found = client.steer_worker(client.find_worker(one).id, name, reason)
                if as_json:
                    print_json(found)
                else:
                    click.echo(f"{found.name}\t{found.status}")


_step("approve", "Let workers take tasks.", takes_reason=False)
_step("suspend", "Let workers take no tasks until they are approved again.", takes_reason=True)
_step("revoke", "Shut workers out for good.", takes_reason=True)
_step("drain", "Let workers finish what runs and take nothing new.", takes_reason=False)
_step("resume", "Let drained workers take tasks again.", takes_reason=False)


@click.command("join-token")
@click.option("--uses", type=click.IntRange(1), default=1, show_default=True, help="For so many machines.")
@click.option("--ttl", type=Duration(), default="1h", show_default=True, metavar="TIME", help="Valid for so long.")
@click.option("--auto-approve", is_flag=True, help="The machines take tasks without approval.")
@json_option
def join_token(*, uses: int, ttl: float, auto_approve: bool, as_json: bool) -> None:
    """Make a token that lets a machine join: the token on stdout, the whole line for that machine on stderr."""
    with connect() as client:
        made = client.join_token(uses=uses, ttl_s=max(1, round(ttl)), auto_approve=auto_approve)
    if as_json:
        print_json(made)
        return
    click.echo(made.token)
    if made.join_command:
        click.echo(f"On the machine that joins:\n  {made.join_command}", err=True)


@click.command()
@json_option
def stats(*, as_json: bool) -> None:
    """Show counts of workers and tasks, and the dispatcher's load."""
    with connect() as client:
        found = client.stats()
    if as_json:
        print_json(found)
        return
    groups: dict[str, Mapping[str, float]] = {
        "workers": found.workers,
        "tasks": found.tasks,
        "system": found.system,
        "database": found.database,
    }
    fields((f"{name} {key}", f"{value:g}") for name, counts in groups.items() for key, value in counts.items())


def _row(worker: Worker) -> tuple[str, ...]:
    return (
        worker.id,
        worker.name,
        worker.status,
        str(worker.slots),
        size(worker.memory_total_bytes),
        str(worker.levels[-1]["level"]) if worker.levels else "",
        "now" if worker.is_connected else ago(worker.last_seen_at),
    )


def _details(worker: Worker) -> list[tuple[str, str]]:
    return [
        ("id", worker.id),
        ("name", worker.name),
        ("status", worker.status),
        ("reason", worker.admission_reason or worker.pause_reason),
        ("slots", str(worker.slots)),
        ("processors", str(worker.cpu_count or "")),
        ("memory", size(worker.memory_total_bytes)),
        ("network", "allowed" if worker.allows_network else "never"),
        ("sandbox", ", ".join(str(level.get("level", "")) for level in worker.levels)),
        ("most allowed", ", ".join(f"{name} {value}" for name, value in worker.max_limits.items())),
        ("platform", worker.platform),
        ("version", worker.software_version),
        ("address", worker.address or ""),
        ("joined", clock(worker.created_at)),
        ("seen", clock(worker.last_seen_at)),
    ]
