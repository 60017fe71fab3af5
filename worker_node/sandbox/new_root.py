"""The file system of strict and very_strict: the system read-only, an own /proc, /dev and /tmp, nothing else.

Theory of operation. In a mount namespace of its own a process mounts an empty root, binds into it what programs
need of the system, makes all of that read-only, and makes it its root: that is `build`, once for many attempts.
Each attempt gets a copy of these mounts, and `enliven` adds what it could change: /proc, pseudo-terminals, shared
memory. The workspaces, and the host's /proc, without which the kernel lets nobody mount a new one, come along at a
hidden place: one workspace is put at /tmp, and `close` makes /proc and takes the hidden place away.

What of the system is visible is a list of what is allowed, so nothing new on the host is visible by mistake.
Standard library only.
"""

from __future__ import annotations

import os

from worker_node.sandbox import kernel

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

USER: Final = 1000
"""User and group number inside, on every machine. Outside it is whoever runs the command."""

TMP: Final = "/tmp"  # noqa: S108 - the sandbox's own
_BASE: Final = TMP
"""A folder that every system has; the new root is mounted over it."""
_SYSTEM: Final = frozenset({"usr", "opt", "nix", "gnu", "bin", "sbin", "lib", "lib32", "lib64", "libx32"})
_SETTINGS: Final = frozenset(
    [
        "alternatives",
        "ca-certificates",
        "ca-certificates.conf",
        "crypto-policies",
        "debian_version",
        "fonts",
        "gai.conf",
        "gitconfig",
        "glvnd",
        "host.conf",
        "inputrc",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "locale.alias",
        "locale.conf",
        "localtime",
        "magic",
        "magic.mime",
        "manpath.config",
        "mime.types",
        "networks",
        "nsswitch.conf",
        "OpenCL",
        "openmpi",
        "os-release",
        "perl",
        "pki",
        "protocols",
        "R",
        "rpc",
        "sensors3.conf",
        "services",
        "sgml",
        "shells",
        "ssl",
        "terminfo",
        "texmf",
        "timezone",
        "vulkan",
        "xml",
    ]
)
_SETTINGS_BEGIN: Final = ("ImageMagick", "java", "php", "python3", "ruby")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS: Final = {
    "dev/fd": "/proc/self/fd",
    "dev/stdin": "/proc/self/fd/0",
    "dev/stdout": "/proc/self/fd/1",
    "dev/stderr": "/proc/self/fd/2",
    "dev/ptmx": "pts/ptmx",
    "etc/mtab": "/proc/self/mounts",
    "var/tmp": TMP,
    "var/run": "/run",
}
_FOLDERS: Final = ("proc", "dev", "dev/pts", "dev/shm", "tmp", "etc", "var", "run", "root", "home")
_MAX_COPY_BYTES: Final = 4 << 20
"""Far more than any settings file has."""
_HIDDEN: Final = "hidden"
_WORKSPACES: Final = f"{_HIDDEN}/workspaces"
_HOST_PROC: Final = f"{_HIDDEN}/proc"

_TEXTS: Final = {
    "etc/passwd": f"task:x:{USER}:{USER}:task:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": f"task:x:{USER}:\nnogroup:x:65534:\n",
}
_LONELY_TEXTS: Final = {
    "etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
    "etc/hostname": "sandbox\n",
}
HOST_NAME: Final = "sandbox"

SHARED_MEMORY_BYTES: Final = 64 << 20
"""Size of /dev/shm, as containers have it: what is in there no poll of a process would see."""


def build(workspaces: str, *, allows_network: bool) -> None:
    """Make the new root and enter it; raise OSError at the first step that fails."""
    # Nothing that is mounted from here on may reach the host.
    kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    # Opened before the new root covers it: the workspaces may well lie under /tmp.
    workspaces_fd = os.open(workspaces, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    kernel.mount("tmpfs", _BASE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=8m,mode=755")
    for name in _FOLDERS:
        os.mkdir(_in(name), 0o755)
    os.mkdir(_in(_HIDDEN), 0o700)
    for name, target in _LINKS.items():
        os.symlink(target, _in(name))
    for name, text in (_TEXTS if allows_network else _TEXTS | _LONELY_TEXTS).items():
        _write(_in(name), text.encode())
    for name in _DEVICES:
        _write(_in(f"dev/{name}"), b"")
    with os.scandir("/") as entries:
        for entry in entries:
            if entry.name in _SYSTEM:
                _bring(entry, "")
    with os.scandir("/etc") as entries:
        for entry in entries:
            if entry.name in _SETTINGS or entry.name.startswith(_SETTINGS_BEGIN):
                _bring(entry, "etc/")
    if allows_network:
        for name in ("etc/hosts", "etc/resolv.conf"):
            _copy(f"/{name}", _in(name))
    kernel.restrict_mounts(_BASE, kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV)
    for name in _DEVICES:
        kernel.mount(f"/dev/{name}", _in(f"dev/{name}"), "", kernel.MS_BIND)
    # One mount that holds the others, so that one call takes them away.
    kernel.mount("tmpfs", _in(_HIDDEN), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k,mode=700")
    os.mkdir(_in(_WORKSPACES))
    os.mkdir(_in(_HOST_PROC))
    kernel.mount(f"/proc/self/fd/{workspaces_fd}", _in(_WORKSPACES), "", kernel.MS_BIND)
    os.close(workspaces_fd)
    kernel.mount("/proc", _in(_HOST_PROC), "", kernel.MS_BIND | kernel.MS_REC)
    kernel.enter_root(_BASE)


def own_mounts() -> int:
    """Return a descriptor of the mount namespace that `build` was called in."""
    return os.open(f"/{_HOST_PROC}/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def enliven() -> None:
    """Add, to a copy of what `build` made, the parts that no two attempts may share; raise OSError."""
    safe = kernel.MS_NOSUID | kernel.MS_NOEXEC
    kernel.mount("devpts", "/dev/pts", "devpts", safe, "newinstance,ptmxmode=0666,mode=620")
    # Executable: some runtimes map generated code from there.
    options = f"size={SHARED_MEMORY_BYTES},nr_inodes={SHARED_MEMORY_BYTES >> 12},mode=1777"
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)  # noqa: S108


def give_workspace(name: str) -> None:
    """Put one of the workspaces at /tmp."""
    kernel.mount(f"/{_WORKSPACES}/{name}", TMP, "", kernel.MS_BIND)
    kernel.restrict_mounts(TMP, kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV)


def give_memory(size_bytes: int, name: str, folders: list[str], inputs: list[str]) -> None:
    """Put a /tmp of limited size in memory there instead, gone with the sandbox; each file counts one page.

    The inputs stay in the workspace on the disk and are shown in it, each to be read only.
    """
    options = f"size={size_bytes},nr_inodes={size_bytes >> 12},mode=700,uid={USER},gid={USER}"
    kernel.mount("tmpfs", TMP, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    for folder in folders:
        os.mkdir(f"{TMP}/{folder}", 0o700)
    for file in inputs:
        target = f"{TMP}/{file}"
        _write(target, b"")
        kernel.mount(f"/{_WORKSPACES}/{name}/{file}", target, "", kernel.MS_BIND)
        kernel.restrict_mounts(target, kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV)


def close() -> None:
    """Show the processes of the own process namespace in /proc, and take away what no command may see."""
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NOEXEC | kernel.MS_NODEV)
    kernel.unmount(f"/{_HIDDEN}")


def open_tmp() -> int:
    """Return a descriptor that keeps /tmp, though not to be read by it, when the sandbox is gone."""
    return os.open(TMP, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def is_full() -> bool:
    """Return whether /tmp has no room left for a block or a file."""
    room = os.statvfs(TMP)
    return room.f_bavail == 0 or (room.f_files > 0 and room.f_ffree == 0)


def _bring(entry: os.DirEntry[str], folder: str) -> None:
    """Show an entry of the host at the same place: a folder as it is, a file as it is now, a link as a link."""
    target = _in(folder + entry.name)
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
    elif entry.is_dir():
        os.mkdir(target)
        # With all that is mounted below: a part of it could hide what the owner covered.
        kernel.mount(entry.path, target, "", kernel.MS_BIND | kernel.MS_REC)
    elif entry.is_file():
        _copy(entry.path, target)


def _copy(source: str, target: str) -> None:
    """Copy a small file, which costs less than a mount; one that is not there or not for this user is left out."""
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        _write(target, os.read(fd, _MAX_COPY_BYTES))
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _in(name: str) -> str:
    return f"{_BASE}/{name}"
