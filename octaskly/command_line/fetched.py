"""A task's files brought home, and the task as one JSON document that names them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from octaskly.answers import Task
    from octaskly.async_client import AsyncClient


class Fetched(msgspec.Struct, frozen=True):
    """A file that lies here now."""

    name: str
    size: int
    sha256: str
    path: str


async def bring_home(client: AsyncClient, task: Task, folder: Path, fetched: list[Fetched]) -> None:
    """Fetch all that a task left into a folder; each is noted as soon as it is there."""
    for output in await client.outputs(task.id):
        path = await client.download(task.id, output, folder)
        fetched.append(Fetched(output.name, output.size, output.sha256, str(path)))


def document(task: Task, fetched: list[Fetched], warnings: list[str]) -> dict[str, Any]:
    """Return a task as REST shows it, with the files that were brought home and what its submission warned of."""
    return {**msgspec.to_builtins(task), "warnings": warnings, "output_files": msgspec.to_builtins(fetched)}
