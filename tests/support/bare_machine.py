"""A machine with the system's programs and nothing else: no clone, no virtual environment, an empty home."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from octaskly_site.join import target_tag

UID = 4242
SYSTEM_PYTHON = "/usr/bin/python3"
NEEDED = ("unshare", "setpriv", "curl")

ENTER = r"""
set -eu
root=$1 home=$2 uid=$3
shift 3
mount -t tmpfs none "$root"
mkdir "$root/usr" "$root/etc" "$root/proc" "$root/dev" "$root/sys" "$root/tmp" "$root/old" "$root/home"
chmod 1777 "$root/tmp"
mount --rbind /usr "$root/usr"
mount -t tmpfs none "$root/usr/local"
for name in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$name" ]; then cp -a "/$name" "$root/$name"
  elif [ -d "/$name" ]; then mkdir "$root/$name"; mount --rbind "/$name" "$root/$name"
  fi
done
for name in ld.so.cache nsswitch.conf hosts localtime; do
  if [ -e "/etc/$name" ]; then cp "/etc/$name" "$root/etc/$name"; fi
done
echo "joiner:x:$uid:$uid::/home:/bin/sh" >"$root/etc/passwd"
echo "joiner:x:$uid:" >"$root/etc/group"
for name in proc dev sys; do mount --rbind "/$name" "$root/$name"; done
mount --bind "$home" "$root/home"
cd "$root"
pivot_root . old
umount -l old
cd /home
exec env -i HOME=/home PATH=/usr/bin:/bin LANG=C.UTF-8 \
  setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
"""


class NoBareMachine(Exception):
    """This host cannot make one; the message says why."""


class BareMachine:
    """Each command enters anew; only the home stays."""

    def __init__(self, folder: Path) -> None:
        """Make one; raises NoBareMachine."""
        _check_host()
        self._root = folder / "root"
        self.home = folder / "home"
        self._root.mkdir()
        self.home.mkdir(mode=0o700)
        os.chown(self.home, UID, UID)

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs `arguments` there; each step is an exec, so the pid is its own."""
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "enter"]
        return [*enter, str(self._root), str(self.home), str(UID), *arguments]

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell there to its end."""
        return subprocess.run(
            self.command("sh", "-c", line), capture_output=True, text=True, check=False, timeout=60, cwd="/"
        )

    def files(self) -> set[str]:
        """Return the files below the home."""
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*") if not path.is_dir()}


def _check_host() -> None:
    if os.name != "posix" or os.geteuid() != 0:
        raise NoBareMachine("needs root to leave the files of this machine behind")
    for program in NEEDED:
        if shutil.which(program) is None:
            raise NoBareMachine(f"needs {program}")
    asked = subprocess.run(
        [SYSTEM_PYTHON, "-I", target_tag.__file__], capture_output=True, text=True, check=False, timeout=20
    )
    if asked.stdout != target_tag.own_tag():
        raise NoBareMachine(f"the system's Python is {asked.stdout or 'missing'}, this one {target_tag.own_tag()}")
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0:
        raise NoBareMachine("may not make mount namespaces")
