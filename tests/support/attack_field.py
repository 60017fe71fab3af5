"""A host with things to steal and to break, and the eyes that see what came through to it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.attacks import ATTACKS, Trace
from tests.support.sandbox_bench import SECRET, until

USR_FILE = Path("/usr/lib/os-release")
SYSTEM = [Path("/", name) for name in ("usr", "opt", "lib", "etc", "etc/ssl", "etc/alternatives", "nix", "gnu")]

_HOST_PROCESS = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGUSR1, lambda *_: Path(sys.argv[3]).touch())
key = open(sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
"""


class Field:
    """Files, servers and a process that attacks are aimed at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"octaskly-attack-{secrets.token_hex(6)}"
        self.facts: dict[str, Any] = {}
        """What attacks are told of the host, by the names of the constants in their text."""
        self._neighbour: psutil.Process | None = None
        # Unlike all other naps on this machine, and two of them: the host can tell a neighbour that was signalled.
        self._nap, self._nap_when_signalled = (f"{seconds}.{secrets.randbelow(10**6):06}" for seconds in (120, 121))

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Field]:
        """Set everything up, and leave nothing behind."""
        # Not in /tmp: a sandbox that did no more than to cover that would hide all of it.
        field = cls(Path(tempfile.mkdtemp(prefix="octaskly-attacks-", dir="/var/tmp")))
        try:
            field._plant_files()
            async with field._servers():
                with field._host_process():
                    try:
                        yield field
                    finally:
                        field._remove_traces()
        finally:
            shutil.rmtree(field.folder)

    @property
    def work(self) -> Path:
        """Where the working folders of commands belong."""
        return self.folder / "work"

    @property
    def key(self) -> Path:
        """The worker's private key."""
        return self.folder / "state" / "worker.key"

    # --- the neighbour -----------------------------------------------------------------------------------

    @property
    def neighbour_command(self) -> str:
        """What another task does: keep a secret, and take another nap when a signal comes."""
        return (
            f"trap 'exec sleep {self._nap_when_signalled}' USR1; pwd >where; printf %s {self.mark}-neighbour >secret; "
            f"sleep {self._nap} & wait"
        )

    async def meet_neighbour(self, ancestor_pid: int) -> None:
        """Wait until the neighbour, somewhere below a process, naps: by then it has its secret and expects a signal."""
        ancestor = psutil.Process(ancestor_pid)

        def naps() -> list[psutil.Process]:
            return [child for child in ancestor.children(recursive=True) if self._nap in _words(child)]

        await until(lambda: bool(naps()))
        self._neighbour = naps()[0].parent()
        assert self._neighbour is not None
        folders = []
        for secret in self.work.rglob("secret"):
            # Where a sandbox in the making has all of them, as the host sees it, and as the task itself does.
            folders += [f"/workspaces/{secret.parent.name}", str(secret.parent)]
            folders.append(secret.with_name("where").read_text().strip())
        self.facts |= {"NEIGHBOUR_PID": self._neighbour.pid, "NEIGHBOUR_NAP": self._nap}
        self.facts |= {"NEIGHBOUR_FOLDERS": folders, "NEIGHBOUR_SECRET": f"{self.mark}-neighbour"}

    # --- looking ---------------------------------------------------------------------------------------

    async def shows(self, trace: Trace, mark: str, *, patience_s: float) -> bool:
        """Return whether an attack shows on the host. A signal may take a moment to be handled, a process to die."""
        match trace:
            case Trace.FILE:
                return any(path.exists() for path in self._open_places(mark))
            case Trace.PROCESS:
                return not await _comes(lambda: not _processes_with_word(mark), patience_s)
            case Trace.SHARED_MEMORY:
                return _shared_memory_with(self.facts["SHARED_MEMORY_KEY"]) is not None
            case Trace.QUEUE:
                return _queue_exists(mark)
            case Trace.SIGNAL_TO_HOST:
                return await _comes(self._signalled.exists, patience_s)
            case Trace.SIGNAL_TO_NEIGHBOUR:
                return await _comes(self._is_neighbour_signalled, patience_s)

    def _open_places(self, name: str) -> list[Path]:
        return [Path(folder, name) for folder in (self.folder / "shared", "/tmp", "/var/tmp", "/dev/shm")]

    @property
    def _signalled(self) -> Path:
        return self.folder / "signalled"

    def _is_neighbour_signalled(self) -> bool:
        return self._neighbour is not None and self._nap_when_signalled in _words(self._neighbour)

    # --- setting up ------------------------------------------------------------------------------------

    def _plant_files(self) -> None:
        self.folder.chmod(0o755)
        for name, mode in (("state", 0o700), ("home", 0o755), ("shared", 0o777), ("work", 0o755)):
            (self.folder / name).mkdir()
            (self.folder / name).chmod(mode)
        planted = self.folder / "planted"
        planted.touch()
        (self.folder / "home" / "diary").touch()
        self.key.write_text(f"{self.mark}-key")
        self.key.chmod(0o600)
        self.facts |= {
            "KEY_PATH": str(self.key),
            "KEY": f"{self.mark}-key",
            "PLANTED_PATH": str(planted),
            "PLANTED": _identity(planted),
            "HOME_PATH": str(self.folder / "home"),
            "SHARED_PATH": str(self.folder / "shared"),
            "SHADOW": _identity(Path("/etc/shadow")),
            "ETC_PASSWD": _identity(Path("/etc/passwd")),
            "USR_FILE_PATH": str(USR_FILE),
            "USR_FILE": _identity(USR_FILE),
            "SYSTEM": [[str(path), _identity(path)] for path in SYSTEM if path.exists()],
            "HANDLE": _handle_in_usr([planted, USR_FILE]),
            "WORKER_SECRET": SECRET,
            "SHARED_MEMORY_KEY": secrets.randbelow(2**31 - 2) + 1,
            "MOUNT_NAMESPACE": Path("/proc/self/ns/mnt").stat().st_ino,
            "NETWORK_NAMESPACE": Path("/proc/self/ns/net").stat().st_ino,
            "HOST_NAME": os.uname().nodename,
            "HOST_NAME_NAMESPACE": Path("/proc/self/ns/uts").stat().st_ino,
        }

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[None]:
        """Serve on TCP, UDP and UNIX sockets: who gets through is told a greeting."""
        greeting = f"{self.mark}-greeting"

        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                writer.write(greeting.encode())
                await writer.drain()
            writer.close()

        class Greeter(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.transport.sendto(greeting.encode(), addr)

        path = self.folder / "socket"
        tcp = await asyncio.start_server(greet, "127.0.0.1", 0)
        unix = await asyncio.start_unix_server(greet, path)
        path.chmod(0o777)
        abstract = await asyncio.start_unix_server(greet, f"\0{self.mark}")
        udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(Greeter, ("127.0.0.1", 0))
        self.facts |= {
            "GREETING": greeting,
            "TCP_PORT": tcp.sockets[0].getsockname()[1],
            "UDP_PORT": udp.get_extra_info("sockname")[1],
            "SOCKET_PATH": str(path),
            "ABSTRACT_NAME": self.mark,
        }
        try:
            yield
        finally:
            udp.close()
            for server in (tcp, unix, abstract):
                server.close()
                await server.wait_closed()

    @contextmanager
    def _host_process(self) -> Iterator[None]:
        """Run a process of this user that has a secret in its environment and a key in a descriptor."""
        mark, secret = f"{self.mark}-host", f"{self.mark}-host-secret"
        words = [sys.executable, "-I", "-c", _HOST_PROCESS, mark, str(self.key), str(self._signalled)]
        # Its input ends with the tests, however those end, and so does it.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(words, env={"HOST_SECRET": secret}, **pipes) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                self.facts |= {"HOST_PID": process.pid, "HOST_MARK": mark, "HOST_SECRET": secret}
                yield
            finally:
                process.kill()

    def _remove_traces(self) -> None:
        """Take away what attacks that succeeded left on the host."""
        for attack in ATTACKS:
            mark = f"{self.mark}-{attack.name}"
            match attack.trace:
                case Trace.FILE:
                    for path in self._open_places(mark):
                        path.unlink(missing_ok=True)
                case Trace.PROCESS:
                    for process in _processes_with_word(mark):
                        process.kill()
                case Trace.QUEUE:
                    _librt().mq_unlink(f"/{mark}".encode())
                case Trace.SHARED_MEMORY:
                    segment = _shared_memory_with(self.facts["SHARED_MEMORY_KEY"])
                    if segment is not None:
                        ctypes.CDLL(None).shmctl(segment, 0, None)


async def _comes(is_so: Callable[[], bool], seconds: float) -> bool:
    """Return whether something is so now or becomes so in time."""
    if not is_so():
        with contextlib.suppress(TimeoutError):
            await until(is_so, seconds)
    return is_so()


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.cmdline()
    return []


def _processes_with_word(word: str) -> list[psutil.Process]:
    # Whole words: the text of each attack stands in its own command line.
    return [process for process in psutil.process_iter() if word in _words(process)]


def _identity(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_dev, status.st_ino]


def _shared_memory_with(key: int) -> int | None:
    table = Path("/proc/sysvipc/shm")
    lines = table.read_text().splitlines()[1:] if table.exists() else []
    return next((int(line.split()[1]) for line in lines if int(line.split()[0]) == key), None)


def _librt() -> ctypes.CDLL:
    return ctypes.CDLL("librt.so.1", use_errno=True)


def _queue_exists(name: str) -> bool:
    descriptor = _librt().mq_open(f"/{name}".encode(), os.O_RDONLY)
    if descriptor != -1:
        os.close(descriptor)
    return descriptor != -1


def _handle_in_usr(paths: list[Path]) -> tuple[int, str, list[int]] | None:
    """Return kind, bytes and identity of the first of these files that lies in the file system of /usr."""

    class Handle(ctypes.Structure):
        _fields_ = (("length", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128))

    at_working_folder, follows_link = -100, 0x400
    path = next(path for path in paths if path.stat().st_dev == Path("/usr").stat().st_dev)
    handle, mount = Handle(128), ctypes.c_int()
    arguments = (at_working_folder, str(path).encode(), ctypes.byref(handle), ctypes.byref(mount), follows_link)
    if ctypes.CDLL(None).name_to_handle_at(*arguments) != 0:
        return None
    return handle.kind, bytes(handle.data[: handle.length]).hex(), _identity(path)
