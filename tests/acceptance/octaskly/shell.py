"""A user's shell at a cluster: `octaskly` in a process of its own where that matters, in this one where it does not."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from octaskly.__main__ import main
from tests.support.programs import ROOT, clean_environment
from tests.support.wait import wait_until


class Shell:
    """A folder and a login of its own, in which `octaskly` is run."""

    def __init__(self, home: Path, here: Path, url: str) -> None:
        self.home = home
        self.here = here
        for folder in (home, here):
            folder.mkdir(exist_ok=True)
        self.environment = clean_environment(self.home, OCTASKLY_URL=url, PYTHONPATH=str(ROOT))

    def start(self, *arguments: str, stdin: Any = subprocess.DEVNULL, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command in a process of its own, as a user does."""
        return subprocess.Popen(
            [sys.executable, "-m", "octaskly", *arguments],
            cwd=self.here,
            env={**self.environment, **variables},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
        **variables: str,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, in this process: starting Python for each takes longer than most commands do."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            with self._inside(variables), _descriptors(given, stdout or out, stderr or err):
                code = main(arguments)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    def run_until_told(self, *arguments: str) -> list[str]:
        """Run a command with a --name until it tells something on stderr, cancel its tasks, and return all lines told."""
        path = self.write("told")
        name = arguments[arguments.index("--name") + 1]

        def cancel_later() -> None:
            wait_until(lambda: path.read_bytes().count(b"\n"), "something is told")
            with self.start("cancel", "--name", name) as process:
                process.communicate(timeout=60)

        cancelling = threading.Thread(target=cancel_later)
        cancelling.start()
        with path.open("r+b") as told:
            self.run(*arguments, stderr=told)
        cancelling.join(60)
        return path.read_text().splitlines()

    def says(self, *arguments: str, stdin: bytes = b"") -> str:
        """Return what a command that must succeed printed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode()

    def write(self, name: str, data: bytes = b"") -> Path:
        """Make a file in the current folder."""
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    @contextlib.contextmanager
    def _inside(self, variables: dict[str, str]) -> Iterator[None]:
        before = dict(os.environ)
        with contextlib.chdir(self.here):
            os.environ.clear()
            os.environ.update(self.environment | variables)
            try:
                yield
            finally:
                os.environ.clear()
                os.environ.update(before)


@contextlib.contextmanager
def _descriptors(*files: IO[bytes]) -> Iterator[None]:
    """Have stdin, stdout and stderr be these files, down to their numbers."""
    kept = [os.dup(number) for number in range(3)]
    streams = sys.stdin, sys.stdout, sys.stderr
    try:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        sys.stdin, sys.stdout, sys.stderr = (
            io.open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115, UP020 - closed below
            for number, mode in enumerate("rww")
        )
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.close()
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, copy in enumerate(kept):
            os.dup2(copy, number)
            os.close(copy)
