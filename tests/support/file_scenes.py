"""Tasks with files at every level, honest and hostile ones, told as JSON: they run as root and as an ordinary user."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil

from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import SandboxLevel
from tests.support.sandbox_bench import Bench, Ending, play

BIG = 40 << 20
HOSTILE = {
    "a link to a file": ("ln -s {secret} out", "out"),
    "a link to a file, by a glob": ("ln -s {secret} out", "*"),
    "a link in the working folder": ("echo x >real; ln -s real out", "out"),
    "a link to a folder": ("ln -s {folder} dir", "dir/secret"),
    "a link to a folder, by a glob": ("ln -s {folder} dir", "dir/*"),
    "a link to a folder, by any folder": ("ln -s {folder} dir", "**/secret"),
    "a link out and back in": ("mkdir dir; ln -s .. dir/up; ln -s / root", "dir/up/root{secret}"),
    "a link of the kernel's": ("ln -s /proc/self/root/etc/passwd out", "out"),
    "a process of the worker's": ("ln -s /proc/self/environ out", "out"),
    "a further name of a file": ("ln {secret} out", "out"),
    "a further name of an own file": ("echo x >one; ln one out", "out"),
    "a pipe": ("mkfifo out", "out"),
    "a pipe, by a glob": ("mkfifo out", "o*"),
    "a device": ("mknod out c 1 5", "out"),
    "a folder": ("mkdir out", "out"),
    "a name of two lines": ("echo x >'a\nb'", "*"),
    "a name with a backslash": ("echo x >'a\\b'", "*"),
    "a name of no text": ("echo x >$(printf 'a\\377b')", "*"),
    "a way up": ("true", "../secret"),
    "a way from the root": ("true", "{secret}"),
    "ten terabytes of nothing": ("truncate -s 10T out || rm out", "out"),
    "folders without an end": ("for i in $(seq 40); do mkdir d; cd d; done; echo x >out", "**/out"),
}
"""What a command does, and the output it declares: none of it may be collected."""


def stage(level: str) -> dict[str, Any]:
    """Run an honest task with inputs, and tell what it saw and what came out."""
    return _scene(_stage, level)


async def _stage(bench: Bench, level: SandboxLevel) -> dict[str, Any]:
    big = secrets.token_bytes(BIG)
    inputs = [bench.shelf.put("in/deep/small.txt", b"small\n"), bench.shelf.put("big", big)]
    command = (
        "cat in/deep/small.txt; { echo y >>in/deep/small.txt; } 2>/dev/null || echo read-only; "
        "mkdir in/mine out && cp in/deep/small.txt out/copy.txt && cp big out/big; echo z >.hidden; echo p >plain"
    )
    # The inputs fill the limit, which is about what the command writes.
    limits = Limits(disk_mb=(BIG >> 20) + 2)
    outputs = ["plain", "out/*", "big", "**/*.txt"]
    ending = await bench.run(command, level, inputs=inputs, outputs=outputs, limits=limits)
    again = await bench.run("cat in/deep/small.txt", level, inputs=inputs)
    missing = await bench.run("echo x >there", level, outputs=["there", "not/there", "*.none"])
    failed = await bench.run("echo x >there; exit 3", level, outputs=["there", "nix"])
    return {
        **_told(bench, ending, {"plain": b"p\n", "out/copy.txt": b"small\n", "out/big": big, "big": big}),
        "cached": again.stdout.decode(),
        "fetches": len(bench.shelf.asked),
        "missing": _told(bench, missing, {"there": b"x\n"}),
        "failed": _told(bench, failed, {"there": b"x\n"}),
        "left": sorted(path.name for path in bench.workspaces.root.iterdir()),
    }


def repeat(level: str) -> list[int]:
    """Run tasks with files again and again, and tell how many descriptors this process has open after each."""
    return _scene(_repeat, level)


async def _repeat(bench: Bench, level: SandboxLevel) -> list[int]:
    inputs = [bench.shelf.put("in", b"x")]
    counts = []
    for number in range(12):
        ending = await bench.run(f"cp in out; exit {number % 3}", level, inputs=inputs, outputs=["out"])
        assert [file.name for file in ending.report.outputs] == ["out"]
        counts.append(psutil.Process().num_fds())
    stopped = bench.start("echo x >out; sleep 100", level, outputs=["out"])
    await stopped.is_started.wait()
    bench.runner.stop(stopped.attempt_id, at_once=False)
    await stopped.is_over.wait()
    assert stopped.report.outputs == []
    return [*counts, psutil.Process().num_fds()]


def attack(level: str) -> dict[str, Any]:
    """Run each hostile task, and tell what of it was collected."""
    return _scene(_attack, level)


async def _attack(bench: Bench, level: SandboxLevel) -> dict[str, Any]:
    secret = _plant_secret()
    secret_folder = secret.parent
    try:
        places = {"secret": secret, "folder": secret_folder}
        endings = {
            name: bench.start(f"{command.format(**places)}; exit 0", level, outputs=[output.format(**places)])
            for name, (command, output) in HOSTILE.items()
        }
        verdicts = {}
        for name, ending in endings.items():
            await ending.is_over.wait()
            report = ending.report
            verdicts[name] = {
                "reason": str(report.failure_reason),
                "detail": report.detail,
                "files": {file.name: file.size_bytes for file in report.outputs},
            }
        return verdicts
    finally:
        shutil.rmtree(secret_folder)


def _plant_secret() -> Path:
    """Lay down what everybody may read, and no output may be."""
    folder = Path(tempfile.mkdtemp(prefix="octaskly-files-", dir="/var/tmp"))
    folder.chmod(0o755)
    secret = folder / "secret"
    secret.write_text("outside")
    secret.chmod(0o644)
    return secret


def _told(bench: Bench, ending: Ending, expected: dict[str, bytes]) -> dict[str, Any]:
    report = ending.report
    return {
        "reason": str(report.failure_reason or ""),
        "detail": report.detail,
        "exit_code": report.exit_code,
        "stdout": ending.stdout.decode(),
        "files": {file.name: bench.output(file) == expected.get(file.name) for file in report.outputs},
    }


def _scene(scene: Callable[[Bench, SandboxLevel], Coroutine[Any, Any, Any]], level: str) -> Any:
    # In a folder that this user owns, and not in /tmp, which a sandbox covers anyway.
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        return play(Path(folder), lambda bench: scene(bench, SandboxLevel(level)))
