"""The cache of inputs on a real disk: fetched once, kept while there is room, believed only as it was verified."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from octaskly_wire.errors import LinkLost
from octaskly_wire.limits import MAX_CHUNK_BYTES
from octaskly_wire.messages import InputFile, TransferRefused
from tests.support.shelf import Shelf
from tests.support.small_disk import NoSmallDisk, mounted_at
from worker_node.shell.blob_cache import BlobCache, CannotFetch
from worker_node.shell.transfers import Refused

PATIENCE_S = 20.0
KIB = 1 << 10


class Cupboard:
    """A cache in a folder, with a shelf to fetch from."""

    def __init__(self, folder: Path, max_bytes: int, reserve_bytes: int = 0) -> None:
        self.folder = folder / "cache"
        self.shelf = Shelf()
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self.cache = self._open()

    def _open(self) -> BlobCache:
        return BlobCache(self.folder, self._max_bytes, self._reserve_bytes, self.shelf)

    def restart(self) -> None:
        """Begin another life with what is on the disk."""
        self.cache = self._open()

    def names(self) -> set[str]:
        """Return what lies in the folder."""
        return {path.name for path in self.folder.rglob("*") if path.is_file()}

    async def use(self, file: InputFile, attempt_id: str = "t1.1") -> bytes:
        """Hold a content as long as it takes to read it."""
        try:
            return (await self.cache.hold(attempt_id, file)).read_bytes()
        finally:
            self.cache.release(attempt_id)


def play(folder: Path, scene: Callable, max_bytes: int = 1 << 30, reserve_bytes: int = 0) -> None:
    """Run a scene with a cupboard."""

    async def main() -> None:
        cupboard = Cupboard(folder, max_bytes, reserve_bytes)
        async with asyncio.timeout(PATIENCE_S):
            await scene(cupboard)
        await cupboard.cache.close()

    asyncio.run(main())


def test_a_content_is_fetched_once_and_found_again_by_the_next_life(tmp_path):
    """Read-only, under its digest."""

    async def scene(cupboard):
        file = cupboard.shelf.put("a", b"content")
        assert [await cupboard.use(file) for _ in range(3)] == [b"content"] * 3
        cupboard.restart()
        assert await cupboard.use(file) == b"content"
        assert len(cupboard.shelf.asked) == 1
        assert cupboard.names() == {file.sha256}
        path = cupboard.folder / file.sha256[:2] / file.sha256
        assert stat.S_IMODE(path.stat().st_mode) == 0o444

    play(tmp_path, scene)


def test_an_empty_content_is_not_asked_for(tmp_path):
    """There is only one."""

    async def scene(cupboard):
        assert await cupboard.use(cupboard.shelf.put("a", b"")) == b""
        assert cupboard.shelf.asked == []

    play(tmp_path, scene)


def test_many_who_want_the_same_wait_for_one_fetch(tmp_path):
    """Also when the one in whose name it began is gone meanwhile."""

    async def scene(cupboard):
        file = cupboard.shelf.put("a", bytes(4 * MAX_CHUNK_BYTES))
        may_go_on = asyncio.Event()
        loop = asyncio.get_running_loop()
        cupboard.shelf.on_chunk = lambda *_: asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result()
        users = [asyncio.create_task(cupboard.use(file, f"t{number}.1")) for number in range(100)]
        while not cupboard.shelf.asked:
            await asyncio.sleep(0.001)
        users[0].cancel()
        await asyncio.wait(users[:1])
        may_go_on.set()
        results = await asyncio.gather(*users[1:])
        assert {len(result) for result in results} == {4 * MAX_CHUNK_BYTES}
        assert cupboard.shelf.asked == [("t0.1", 0)]

    play(tmp_path, scene)


def test_a_fetch_that_nobody_waits_for_ends_and_the_next_goes_on_behind_it(tmp_path):
    """What had arrived is hashed again, not fetched again, also by another life."""

    async def scene(cupboard):
        data = os.urandom(3 * MAX_CHUNK_BYTES)
        file = cupboard.shelf.put("a", data)
        loop, is_there, never = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def hold_back(offset, stop):
            if offset == 2 * MAX_CHUNK_BYTES:
                loop.call_soon_threadsafe(is_there.set)
                waiting = asyncio.run_coroutine_threadsafe(never.wait(), loop)
                stop.wake_by(waiting.cancel)
                waiting.exception()

        cupboard.shelf.on_chunk = hold_back
        user = asyncio.create_task(cupboard.use(file))
        await is_there.wait()
        user.cancel()
        await asyncio.wait([user])
        assert cupboard.names() == {f"{file.sha256}.part"}
        cupboard.shelf.on_chunk = lambda *_: None
        cupboard.restart()
        assert await cupboard.use(file, "t2.1") == data
        assert cupboard.shelf.asked == [("t1.1", 0), ("t2.1", 2 * MAX_CHUNK_BYTES)]
        assert cupboard.names() == {file.sha256}

    play(tmp_path, scene)


def test_a_part_that_was_damaged_is_fetched_anew(tmp_path):
    """The digest tells, and the second try begins at nothing."""

    async def scene(cupboard):
        file = cupboard.shelf.put("a", b"x" * 1000)
        part = cupboard.folder / file.sha256[:2] / f"{file.sha256}.part"
        part.parent.mkdir()
        part.write_bytes(b"y" * 500)
        assert await cupboard.use(file) == b"x" * 1000
        assert [offset for _, offset in cupboard.shelf.asked] == [500, 0]

    play(tmp_path, scene)


@pytest.mark.parametrize("change", ["content", "size", "gone"])
def test_a_content_that_was_changed_on_the_disk_is_fetched_again(tmp_path, change):
    """By whoever: what a command gets is what was verified."""

    async def scene(cupboard):
        file = cupboard.shelf.put("a", b"content")
        path = cupboard.folder / file.sha256[:2] / file.sha256
        await cupboard.use(file)
        path.chmod(0o600)
        if change == "content":
            path.write_bytes(b"CONTENT")
        elif change == "size":
            path.write_bytes(b"cont")
        else:
            path.unlink()
        assert await cupboard.use(file) == b"content"
        assert len(cupboard.shelf.asked) == 2

    play(tmp_path, scene)


def test_the_least_recently_used_goes_first_and_what_is_held_stays(tmp_path):
    """Uses count over a restart, too."""

    async def scene(cupboard):
        old, used, held, new = (cupboard.shelf.put(name, name.encode() * 10 * KIB) for name in "abcd")
        for moment, file in enumerate((held, old, used)):
            await cupboard.use(file)
            path = cupboard.folder / file.sha256[:2] / file.sha256
            os.utime(path, (moment, path.stat().st_mtime))
        cupboard.restart()
        await cupboard.cache.hold("t9.1", held)
        await cupboard.use(used)
        await cupboard.use(new)
        assert cupboard.names() == {used.sha256, held.sha256, new.sha256}
        assert cupboard.cache.total_bytes == 30 * KIB
        cupboard.cache.release("t9.1")

    play(tmp_path, scene, max_bytes=32 * KIB)


def test_a_cache_of_nothing_keeps_a_content_as_long_as_it_is_used(tmp_path):
    """Two attempts at the same time still share it."""

    async def scene(cupboard):
        file = cupboard.shelf.put("a", b"content")
        await cupboard.cache.hold("t1.1", file)
        await cupboard.cache.hold("t2.1", file)
        cupboard.cache.release("t1.1")
        assert cupboard.names() == {file.sha256}
        cupboard.cache.release("t2.1")
        assert cupboard.names() == set()
        assert len(cupboard.shelf.asked) == 1

    play(tmp_path, scene, max_bytes=0)


def test_what_has_no_room_is_not_begun(tmp_path):
    """The reason has the numbers; the cache made all the room it could before."""

    async def scene(cupboard):
        file = cupboard.shelf.put("a", b"content")
        with pytest.raises(
            CannotFetch, match=r"no room on the worker's disk: 1 MB needed, \d+ MB free, \d+ MB are kept"
        ):
            await cupboard.use(file)
        assert cupboard.shelf.asked == []

    play(tmp_path, scene, reserve_bytes=1 << 60)


def test_a_dispatcher_that_comes_and_goes_is_asked_again(tmp_path):
    """A lost link and a refusal that is not final are no reason to give up."""

    async def scene(cupboard):
        file = cupboard.shelf.put("a", b"content")
        troubles = [LinkLost("away"), Refused(TransferRefused("busy", is_final=False)), TimeoutError()]

        def fail(*_: object) -> None:
            if troubles:
                raise troubles.pop()

        cupboard.shelf.on_chunk = fail
        assert await cupboard.use(file) == b"content"
        assert len(cupboard.shelf.asked) == 4

    play(tmp_path, scene)


def test_a_refusal_hits_only_the_attempt_that_it_is_about(tmp_path):
    """Another one that waits for the same content asks in its own name."""

    async def scene(cupboard):
        file = cupboard.shelf.put("a", b"content")

        def refuse_first(*_: object) -> None:
            if cupboard.shelf.asked[-1][0] == "t1.1":
                raise Refused(TransferRefused("not yours", is_final=True))

        cupboard.shelf.on_chunk = refuse_first
        first = asyncio.create_task(cupboard.use(file, "t1.1"))
        second = asyncio.create_task(cupboard.use(file, "t2.1"))
        with pytest.raises(CannotFetch, match="not yours"):
            await first
        assert await second == b"content"

    play(tmp_path, scene)


def test_without_progress_for_long_an_attempt_is_told_so(tmp_path, monkeypatch):
    """With how long it was and what was met last."""
    monkeypatch.setattr("worker_node.shell.blob_cache.GIVE_UP_S", 0.0)

    async def scene(cupboard):
        file = cupboard.shelf.put("a", b"content")

        def fail(*_: object) -> None:
            raise LinkLost("the dispatcher is away")

        cupboard.shelf.on_chunk = fail
        with pytest.raises(CannotFetch, match="no progress for 0 minutes: the dispatcher is away"):
            await cupboard.use(file)

    play(tmp_path, scene)


def test_a_disk_that_fills_up_meanwhile_ends_the_wait(tmp_path):
    """In words, although there was room when it began."""
    with ExitStack() as ends:
        try:
            disk = ends.enter_context(mounted_at(tmp_path / "disk"))
        except NoSmallDisk as reason:
            pytest.skip(str(reason))

        async def scene(cupboard):
            file = cupboard.shelf.put("a", bytes(4 << 20))
            cupboard.shelf.on_chunk = lambda offset, _: disk.fill() if offset else None
            with pytest.raises(CannotFetch, match=r"cannot be written here: .*No space left"):
                await cupboard.use(file)

        play(disk.folder, scene)
