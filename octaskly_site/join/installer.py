"""Installs, updates and removes a worker on the machine that joins.

Sent inside of the join scripts, so it is one file, however long: it stands on the standard library alone, and runs on
whatever supported Python is there.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARKER = ".octaskly-worker"
"""Stands in the folders that may be removed with all that is in them."""

SETTINGS = "settings.json"
UNIT = "octaskly-worker.service"
TOKEN = re.compile(r"octa1-[a-z2-7]{52}-[a-z2-7]{8}-[a-z2-7]{26}-[a-z2-7]{4}")
WRONG_KEY = 90
"""curl's exit code where the pin does not fit."""

DRAIN_S = 70.0
HURRY_S = 10.0
ENROL_S = 30.0
KEPT_FLAGS = ("name", "max_jobs", "min_sandbox", "transport")


class CannotInstall(Exception):
    """The text says why, and what would help."""


@dataclass(frozen=True)
class Offer:
    """What the dispatcher wrote into the script."""

    address: str
    pin: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Place:
    """Where things are on this machine."""

    folder: Path
    state: Path

    @property
    def launcher(self) -> Path:
        """Return the program that starts the worker."""
        return self.folder / ("run.cmd" if os.name == "nt" else "run.sh")

    @property
    def token_file(self) -> Path:
        """Return where the service finds its token, the first time."""
        return self.folder / "join.env"

    @property
    def is_enrolled(self) -> bool:
        """Return whether the worker has an identity of its own."""
        return (self.state / "identity.json").exists()


def main(arguments: list[str]) -> int:
    """Do what the line asked for. The first two arguments are the script's own."""
    offer_text, tag, *asked = arguments
    options = parser().parse_args(asked)
    try:
        place = find_place(options.dir)
        if options.uninstall:
            uninstall(place)
            return 0
        return install(place, Offer(**json.loads(offer_text)), tag, options)
    except CannotInstall as error:
        say(str(error))
    except OSError as error:
        say(f"{error.filename or 'this machine'}: {error.strerror or error}")
    return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of what follows `sh -s --`."""
    parser = argparse.ArgumentParser(prog="join", description="Makes this machine a worker of an Octaskly cluster.")
    parser.add_argument("token", nargs="?", metavar="TOKEN", help="needed the first time; made by: manage.py jointoken")
    parser.add_argument("--name", help="how the worker is shown (default: the host's name)")
    parser.add_argument("--max-jobs", type=int, metavar="N", help="commands at once (default: number of processors)")
    parser.add_argument("--min-sandbox", choices=("none", "basic", "strict", "very_strict"), help="(default: strict)")
    parser.add_argument("--transport", choices=("tcp", "quic", "auto"), help="what carries its link (default: tcp)")
    parser.add_argument("--service", action="store_true", help="keep it running, as a service of systemd")
    parser.add_argument("--dir", type=Path, help="folder for everything (default: below ~/.local)")
    parser.add_argument("--no-start", action="store_true", help="install it and start nothing")
    parser.add_argument("--uninstall", action="store_true", help="stop the worker and remove all that was installed")
    return parser


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"octaskly: {text}\n")


# --- places ----------------------------------------------------------------------------------------


def find_place(given: Path | None) -> Place:
    """Return where the worker is or will be."""
    if given:
        folder = given.expanduser().absolute()
        return Place(folder, folder / "state")
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return Place(base / "octaskly-worker-program", base / "octaskly-worker")
    return Place(
        _base("XDG_DATA_HOME", "share") / "octaskly-worker",
        # Where a worker that was started by hand has its identity, too.
        _base("XDG_STATE_HOME", "state") / "octaskly-worker",
    )


def _base(variable: str, name: str) -> Path:
    given = os.environ.get(variable, "")
    return Path(given) if Path(given).is_absolute() else Path.home() / ".local" / name


def take_folder(folder: Path) -> None:
    """Make the folder ours; raise CannotInstall when somebody else's things are in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / MARKER).exists():
        if any(folder.iterdir()):
            raise CannotInstall(f"{folder} is not empty; give another --dir")
        (folder / MARKER).touch()


# --- installing ------------------------------------------------------------------------------------


def install(place: Place, offer: Offer, tag: str, options: argparse.Namespace) -> int:
    """Install or update, and start."""
    if options.token and not TOKEN.fullmatch(options.token.strip().lower()):
        raise CannotInstall("this is no join token; copy all of it")
    if not options.token and not place.is_enrolled:
        raise CannotInstall("a join token is needed the first time; it is made by: manage.py jointoken")
    service = Service(place)
    is_service = options.service or service.is_installed
    if is_service and not options.no_start:
        service.check()
    take_folder(place.folder)
    program = unpack(place.folder, offer, tag)
    flags = worker_flags(place, offer, options)
    write_launcher(place.launcher, [sys.executable, "-I", str(program), *flags])
    download(offer, script_name(), place.folder / script_name())
    say(f"the worker is installed in {place.folder}")
    say(removal_hint(place))
    if options.no_start:
        say(f"start it with: {'' if place.is_enrolled else 'OCTASKLY_JOIN_TOKEN=TOKEN '}{place.launcher}")
        return 0
    # A worker that is enrolled needs it no more; it says so when the token is another cluster's.
    token = options.token or ""
    if is_service:
        service.start(token)
        sweep(place.folder, program)
        return 0
    stop_worker(place.state, DRAIN_S)
    sweep(place.folder, program)
    environment = {**os.environ, "OCTASKLY_JOIN_TOKEN": token} if token else dict(os.environ)
    return become([sys.executable, "-I", str(program), *flags], environment)


def unpack(folder: Path, offer: Offer, tag: str) -> Path:
    """Fetch the bundle unless it is here, and return its folder, which appears whole or not at all."""
    target = folder / f"{offer.version}-{offer.sha256[:8]}"
    if target.is_dir():
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as draft:
        archive = Path(draft, "bundle.zip")
        download(offer, f"worker/{tag}.zip", archive)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != offer.sha256:
            raise CannotInstall("what was fetched is not what the script announced; run the line again")
        contents = Path(draft, "contents")
        with zipfile.ZipFile(archive) as bundle:
            bundle.extractall(contents)
        trial = subprocess.run(
            [sys.executable, "-I", str(contents), "--version"], capture_output=True, text=True, check=False
        )
        if trial.returncode != 0:
            reason = (trial.stderr.strip().splitlines() or ["no message"])[-1]
            raise CannotInstall(f"the worker does not run with {sys.executable}: {reason}")
        contents.rename(target)
    return target


def download(offer: Offer, path: str, target: Path) -> None:
    """Fetch a file from the dispatcher, whose key must have the pin."""
    if (curl := shutil.which("curl")) is None:
        raise CannotInstall("curl is needed, and is not here")
    # -k: no authority knows the certificate, the pin does.
    command = [curl, "-q", "-fsSk", "--noproxy", "*", "--pinnedpubkey", offer.pin, "--max-time", "180"]
    done = subprocess.run([*command, "-o", str(target), f"https://{offer.address}/{path}"], check=False)
    if done.returncode == WRONG_KEY:
        raise CannotInstall(f"{offer.address} is not the dispatcher of this line: its key is another one")
    if done.returncode != 0:
        raise CannotInstall(f"cannot fetch {path} from {offer.address} (curl ended with {done.returncode})")


def worker_flags(place: Place, offer: Offer, options: argparse.Namespace) -> list[str]:
    """Return the worker's flags: what is asked now, else what was asked the last time."""
    path = place.folder / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    settings |= {name: value for name in KEPT_FLAGS if (value := getattr(options, name)) is not None}
    path.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    flags = ["--dispatcher-addr", offer.address, "--state-dir", str(place.state)]
    for name in KEPT_FLAGS:
        if name in settings:
            flags += [f"--{name.replace('_', '-')}", str(settings[name])]
    return flags


def write_launcher(path: Path, command: list[str]) -> None:
    """Write the program that starts the worker."""
    if os.name == "nt":
        text = f"@{subprocess.list2cmdline(command)} %*\r\n"
    else:
        text = f'#!/bin/sh\n# Starts the worker; flags that follow are passed on.\nexec {shlex.join(command)} "$@"\n'
    path.write_text(text, encoding="utf-8", newline="")
    path.chmod(0o700)


def become(command: list[str], environment: dict[str, str]) -> int:
    """Run the worker in the place of this program; return only where a system cannot do that."""
    if os.name == "nt":
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    # The shell reads the script from there.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.execve(command[0], command, environment)
    raise AssertionError("execve does not return")


def script_name() -> str:
    """Return the script of this system."""
    return "join.ps1" if os.name == "nt" else "join.sh"


def removal_hint(place: Place) -> str:
    """Return the line that removes all of it."""
    script = place.folder / script_name()
    shell = "powershell -ExecutionPolicy Bypass -File" if os.name == "nt" else "sh"
    given = f" --dir {shlex.quote(str(place.folder))}" if place != find_place(None) else ""
    return f"to remove it: {shell} {shlex.quote(str(script))} --uninstall{given}"


def sweep(folder: Path, program: Path) -> None:
    """Remove what earlier versions left."""
    for manifest in folder.glob("*/MANIFEST.json"):
        if manifest.parent != program:
            shutil.rmtree(manifest.parent)


# --- a worker that runs ----------------------------------------------------------------------------


def worker_in(state: Path) -> int | None:
    """Return the process id of the worker that has this state folder; None where there is none, or nobody can tell."""
    if os.name == "nt":
        return None
    import fcntl

    with contextlib.suppress(OSError, ValueError), (state / "lock").open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read())
    return None


def stop_worker(state: Path, patience_s: float) -> None:
    """End the worker that has this state folder: first it may finish what runs."""
    for number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGTERM, HURRY_S), (_KILL, HURRY_S)):
        pid = worker_in(state)
        if pid is None:
            return
        say(f"waiting for the worker that runs here (pid {pid}) to end")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if any(worker_in(state) is None for _ in ticks(seconds)):
            return
    raise CannotInstall(f"the worker that runs here does not end; its state is in {state}")


_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def ticks(seconds: float) -> Iterator[None]:
    """Yield ten times a second, for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.1)


# --- the service -----------------------------------------------------------------------------------


class Service:
    """The worker as a unit of systemd: of the user, or of the machine for root."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._is_root = os.name == "posix" and os.geteuid() == 0
        config = os.environ.get("XDG_CONFIG_HOME", "")
        base = Path(config) if Path(config).is_absolute() else Path.home() / ".config"
        self._path = (Path("/etc/systemd/system") if self._is_root else base / "systemd" / "user") / UNIT

    @property
    def is_installed(self) -> bool:
        """Return whether the unit is that of this place."""
        with contextlib.suppress(OSError):
            return unit_quoted(str(self._place.launcher)) in self._path.read_text(encoding="utf-8")
        return False

    def check(self) -> None:
        """Raise CannotInstall where there is no systemd to ask."""
        if self._systemctl("show-environment") != 0:
            raise CannotInstall("--service needs systemd, which does not answer here; leave it out to run in front")

    def start(self, token: str) -> None:
        """Write the unit, start it, and wait until the worker has used its token."""
        place = self._place
        if token:
            descriptor = os.open(place.token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"OCTASKLY_JOIN_TOKEN={token}\n")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(unit_text(place, is_of_machine=self._is_root), encoding="utf-8")
        for arguments in (["daemon-reload"], ["enable", UNIT], ["restart", UNIT]):
            if self._systemctl(*arguments) != 0:
                raise CannotInstall(f"systemctl {' '.join(arguments)} failed; its message stands above")
        if token and not any(place.is_enrolled for _ in ticks(ENROL_S)):
            raise CannotInstall(f"the service runs, but the worker has not joined yet; see: {self._journal()}")
        place.token_file.unlink(missing_ok=True)
        say(f"the service {UNIT} is started; its log: {self._journal()}")
        if not self._is_root:
            say("so that it runs while you are not signed in, too: loginctl enable-linger")

    def remove(self) -> list[Path]:
        """Stop the service and take it away; return what was removed."""
        if not self.is_installed:
            return []
        self._systemctl("disable", "--now", UNIT)
        self._path.unlink()
        self._systemctl("daemon-reload")
        return [self._path]

    def _journal(self) -> str:
        return f"journalctl {'' if self._is_root else '--user '}-u {UNIT}"

    def _systemctl(self, *arguments: str) -> int:
        if (systemctl := shutil.which("systemctl")) is None:
            return 127
        scope = [] if self._is_root else ["--user"]
        return subprocess.run(
            [systemctl, *scope, *arguments], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False
        ).returncode


def unit_text(place: Place, *, is_of_machine: bool) -> str:
    """Return the unit. What would forbid namespaces, mounts or other users would break the sandbox of tasks."""
    return f"""[Unit]
Description=Octaskly worker
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=/bin/sh {unit_quoted(str(place.launcher))}
EnvironmentFile=-{str(place.token_file).replace("%", "%%")}
Restart=always
RestartSec=5
RestartPreventExitStatus=2
KillMode=mixed
TimeoutStopSec=90
Delegate=yes
OOMPolicy=continue
UMask=0077
LimitCORE=0

[Install]
WantedBy={"multi-user.target" if is_of_machine else "default.target"}
"""


def unit_quoted(text: str) -> str:
    """Return a path as an argument in ExecStart."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


# --- removing --------------------------------------------------------------------------------------


def uninstall(place: Place) -> None:
    """Stop the worker and remove the service, the program and the identity; say what was removed."""
    if not (place.folder / MARKER).exists():
        raise CannotInstall(f"no worker that this script installed is in {place.folder}; name its --dir")
    removed = Service(place).remove()
    stop_worker(place.state, HURRY_S)
    for folder in (place.state, place.folder):
        if folder.exists():
            shutil.rmtree(folder)
            removed.append(folder)
    for path in removed:
        say(f"removed {path}")


if __name__ == "__main__":
    own_folder = Path(__file__).absolute().parent
    if own_folder.name.startswith("octaskly-join."):  # Made by the script for this run only.
        shutil.rmtree(own_folder, ignore_errors=True)
    sys.exit(main(sys.argv[1:]))
