"""The client that awaits: the same methods as Client."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

from octaskly import inputs as local
from octaskly.answers import Attempt, File, JoinToken, Output, Stats, Stepped, Task, Why, Worker
from octaskly.effects import Flow
from octaskly.flows import calls, cluster, contents, following, tasks
from octaskly.flows.tasks import LONGEST_WAIT_S
from octaskly.outcomes import Outcome
from octaskly.placing import placed
from octaskly.session import DEFAULT_PATIENCE_S, Session, settle
from octaskly.specs import TaskOptions, task_spec
from octaskly.transport import AsyncDriver, open_async_http

T = TypeVar("T")


class AsyncClient:
    """Speaks with one server, from one event loop.

    Without arguments it uses OCTASKLY_URL and OCTASKLY_TOKEN, or the login of `octaskly login`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        pin: str | None = None,
        insecure: bool = False,
        patience_s: float = DEFAULT_PATIENCE_S,
        session: Session | None = None,
    ) -> None:
        self.session = session or settle(
            os.environ,
            url=url,
            token=token,
            username=username,
            password=password,
            pin=pin,
            is_insecure=insecure,
            patience_s=patience_s,
        )
        self._http = open_async_http(self.session)
        self._contents = local.Contents()
        self._uploading: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # Tasks

    async def submit(self, command: str, **options: Unpack[TaskOptions]) -> Task:
        """Upload the inputs, and submit a task."""
        sent = await self.uploaded(options.get("inputs", ()))
        return await self._run(tasks.submit(self.session, task_spec(command, options, [one.reference for one in sent])))

    async def submit_many(self, specs: Sequence[Mapping[str, Any]]) -> list[Task]:
        """Submit up to 10,000 tasks in the form that REST takes: all or nothing."""
        return await self._run(tasks.submit_many(self.session, specs))

    async def task(self, task_id: str) -> Task:
        """Return a task by its id."""
        return await self._run(tasks.task(self.session, task_id))

    async def find_task(self, text: str) -> Task:
        """Return the task that an id, or the beginning or end of one, names."""
        return await self._run(tasks.find(self.session, text))

    def tasks(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        owner: str | None = None,
        worker_id: str | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
        ordering: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Task]:
        """Yield tasks, newest first, page after page."""
        flow = tasks.listed(
            self.session,
            limit=limit,
            status=status,
            name=name,
            owner=owner,
            worker_id=worker_id,
            created_after=created_after,
            created_before=created_before,
            ordering=ordering,
        )
        return self._iterate(flow)

    async def attempts(self, task_id: str) -> list[Attempt]:
        """Return a task's attempts, first to last."""
        return await self._run(tasks.attempts(self.session, task_id))

    async def why(self, task_id: str) -> Why:
        """Return why a task waits, worker by worker."""
        return await self._run(tasks.why(self.session, task_id))

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task; a running command is killed with all its processes."""
        return await self._run(tasks.cancel(self.session, task_id))

    async def retry(self, task_id: str) -> Task:
        """Queue an ended task again."""
        return await self._run(tasks.retry(self.session, task_id))

    async def cancel_many(self, task_ids: Sequence[str]) -> Stepped:
        """Cancel tasks, hundreds with each request; of those that have ended it is said why not."""
        return await self._run(tasks.cancel_many(self.session, task_ids))

    async def retry_many(self, task_ids: Sequence[str]) -> Stepped:
        """Queue ended tasks again, hundreds with each request; of the others it is said why not."""
        return await self._run(tasks.retry_many(self.session, task_ids))

    async def wait(self, task_ids: str | Iterable[str], timeout: float | None = None) -> list[Task]:  # noqa: ASYNC109 - as Client
        """Return the tasks once all have ended, in the order given; raises WaitedTooLong."""
        wanted = [task_ids] if isinstance(task_ids, str) else list(task_ids)
        ended = {task.id: task async for task in self.as_ended(wanted, timeout)}
        return [ended[task_id] for task_id in wanted]

    def as_ended(self, task_ids: Iterable[str], timeout: float | None = None) -> AsyncIterator[Task]:
        """Yield each task as soon as it has ended; raises WaitedTooLong."""
        return self._iterate(tasks.wait_each(self.session, list(task_ids), timeout, time.monotonic))

    async def wait_some(self, task_ids: Sequence[str], timeout: float = LONGEST_WAIT_S) -> list[Task]:  # noqa: ASYNC109 - as Client
        """Return those of up to 500 tasks that have ended, as soon as one has; none after the time."""
        return await self._run(tasks.wait_some(self.session, task_ids, timeout))

    # Outputs

    def stream(
        self, task_id: str, stream: str = "stdout", *, offset: int = 0, follow: bool = True
    ) -> AsyncIterator[bytes]:
        """Yield what a command writes, live, until the task has ended."""
        read = following.follow if follow else contents.stream
        return self._iterate(read(self.session, task_id, stream, offset=offset))

    def stream_so_far(self, task_id: str, stream: str = "stdout") -> AsyncIterator[bytes]:
        """Yield what a running command has written until now."""
        return self._iterate(following.so_far(self.session, task_id, stream))

    async def output(self, task_id: str, stream: str = "stdout") -> bytes:
        """Return what was kept of an ended task's stdout or stderr."""
        return b"".join([piece async for piece in self.stream(task_id, stream, follow=False)])

    async def outcome(self, task: Task) -> Outcome:
        """Return an ended task with its output, byte by byte."""
        return Outcome(
            task=task,
            stdout=await self._run(contents.exact_stream(self.session, task, "stdout")),
            stderr=await self._run(contents.exact_stream(self.session, task, "stderr")),
        )

    async def outputs(self, task_id: str) -> list[Output]:
        """Return the files that a task left."""
        return await self._run(contents.outputs(self.session, task_id))

    async def download(self, task_id: str, output: Output | str, folder: str | os.PathLike[str] = ".") -> Path:
        """Bring an output home, checked against its digest, and return where it is."""
        found = output if isinstance(output, Output) else contents.named(await self.outputs(task_id), output)
        with placed(Path(folder), found.name) as file:
            async for piece in self._iterate(contents.output_pieces(self.session, task_id, found)):
                file.write(piece)
        return Path(folder, found.name)

    # Files

    def files(self) -> AsyncIterator[File]:
        """Yield the stored files."""
        return self._iterate(contents.files(self.session))

    async def put_file(self, name: str, source: str | os.PathLike[str] | bytes) -> File:
        """Store a local file, or bytes, under a name."""
        if isinstance(source, bytes):
            return await self._run(contents.put_file(self.session, name, source, len(source)))
        path = Path(source)
        return await self._run(contents.put_file(self.session, name, path, local.size_of(path)))

    def get_file(self, name: str) -> AsyncIterator[bytes]:
        """Yield the content of a stored file."""
        return self._iterate(contents.file_pieces(self.session, name))

    async def remove_file(self, name: str) -> None:
        """Delete a stored file."""
        await self._run(contents.remove_file(self.session, name))

    async def uploaded(self, paths: Iterable[str | os.PathLike[str]]) -> list[local.Sent]:
        """Upload local files and folders where the server has not got them; return how a task names them."""
        sent = []
        for file in local.local_files(paths, Path.cwd()):
            content = await asyncio.to_thread(self._contents.of, file.path)
            # Of several tasks with the same input the first one uploads it.
            async with self._uploading.setdefault(content.sha256, asyncio.Lock()):
                if not self._contents.is_stored(content):
                    await self._run(contents.upload(self.session, file.path, content.sha256, content.size))
                    self._contents.note_stored(content)
            sent.append(local.Sent(local.reference(file.name, content), content.size))
        return sent

    # The cluster

    async def workers(self) -> list[Worker]:
        """Return the workers, newest first."""
        return await self._run(cluster.workers(self.session))

    async def find_worker(self, text: str) -> Worker:
        """Return the worker that a name, an id or its beginning names."""
        return await self._run(cluster.find_worker(self.session, text))

    async def steer_worker(self, worker_id: str, step: str, reason: str = "") -> Worker:
        """Approve, suspend, revoke, drain or resume a worker."""
        return await self._run(cluster.steer_worker(self.session, worker_id, step, reason))

    async def join_token(self, *, uses: int = 1, ttl_s: int = 3600, auto_approve: bool = False) -> JoinToken:
        """Return a new join token."""
        return await self._run(cluster.join_token(self.session, uses=uses, ttl_s=ttl_s, auto_approve=auto_approve))

    async def stats(self) -> Stats:
        """Return counts and load."""
        return await self._run(cluster.stats(self.session))

    # Signing in

    async def login(self, username: str, password: str) -> None:
        """Sign in and keep the tokens where the session keeps them."""
        self.session.keeper.save(await self._run(calls.sign_in(self.session, username, password)))

    async def logout(self) -> None:
        """End the sign-in at the server."""
        await self._run(calls.sign_out(self.session))

    async def _run(self, flow: Flow[T]) -> T:
        return await AsyncDriver(self._http, self.session).run(flow)

    def _iterate(self, flow: Flow[Any]) -> AsyncIterator[Any]:
        return AsyncDriver(self._http, self.session).iterate(flow)
