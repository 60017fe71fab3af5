"""The Linux calls that Python does not offer, one function each. Standard library only, the spawner imports it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Any, Final
if sys.platform != "win32":
    import fcntl

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SECCOMP_MODE_FILTER: Final = 2

CLONE_PARENT: Final = 0x0000_8000
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWCGROUP: Final = 0x0200_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x4_0000
MS_SLAVE: Final = 0x8_0000
MNT_DETACH: Final = 0x2

# The same attributes as flags of mount_setattr.
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4

_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_SYS_OPENAT2: Final = 437
_SYS_MOUNT_SETATTR: Final = 442
_SYS_LANDLOCK_CREATE_RULESET: Final = 444
_SYS_LANDLOCK_ADD_RULE: Final = 445
_SYS_LANDLOCK_RESTRICT_SELF: Final = 446
"""Numbers from 424 on are the same on all machines."""

_RESOLVE_NO_XDEV: Final = 0x01
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08

_SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1
_LANDLOCK_RULE_PATH_BENEATH: Final = 1
_CAPABILITIES_OF_SELF: Final = struct.pack("Ii", 0x2008_0522, 0)
_NO_CAPABILITIES: Final = bytes(24)
_IPC_RMID: Final = 0
_SIOCSIFFLAGS: Final = 0x8914
_LOOPBACK_UP: Final = struct.pack("16sh14x", b"lo", 0x1)

# Calls keep the interpreter lock: none takes long, and one of them forks.
_libc = ctypes.PyDLL(None, use_errno=True) if sys.platform == "linux" else None
_text_or_null, _flags = ctypes.c_char_p, ctypes.c_ulong
_TYPES: Final = {
    "capset": (ctypes.c_char_p, ctypes.c_char_p),
    "mount": (_text_or_null, ctypes.c_char_p, _text_or_null, _flags, _text_or_null),
    "prctl": (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong),
    "setns": (ctypes.c_int, ctypes.c_int),
    "umount2": (ctypes.c_char_p, ctypes.c_int),
    "unshare": (ctypes.c_int,),
}
"""Of what each sandbox calls. Looked up once for all forks, which meet each object of Python for the first time."""
for _name, _types in _TYPES.items() if _libc is not None else ():
    getattr(_libc, _name).argtypes = _types


def _call(name: str, *arguments: Any) -> int:
    """Call a libc function with C longs and byte strings; raise OSError named after it when it returns -1."""
    if _libc is None:
        raise OSError(0, f"{name} exists on Linux only")
    if name not in _TYPES:
        arguments = tuple([ctypes.c_ulong(item) if isinstance(item, int) else item for item in arguments])
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def open_beneath(folder: int, name: bytes, flags: int) -> int:
    """Open a file below a folder: no link on the way, no way out, no other file system; raise OSError.

    Where the kernel does not know the call (before 5.6, or behind an older filter) that is ENOSYS or EPERM.
    """
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _call("syscall", _SYS_OPENAT2, folder, name, how, len(how))


def write_setting(path: str, text: str) -> None:
    """Write to a file that the kernel reads at once, in one piece; it is never created."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def prctl(option: int, value: int, more: Any = None) -> None:
    """Set one option of this process; raise OSError when the kernel refuses."""
    _call("prctl", option, value, more, 0, 0)


def die_with_parent(signal_number: int, parent_pid: int) -> None:
    """Ask for a signal when the parent dies; raise ProcessLookupError when it is dead already.

    The order matters: a parent that died before the call sends nothing, so it is looked at afterwards.
    """
    prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent_pid:
        raise ProcessLookupError("the parent process is gone")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, whatever session it is in."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """Make setuid programs powerless for this process and all it starts, for ever."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """Close /proc/PID/environ and /proc/PID/mem of this process to others of the same user."""
    prctl(PR_SET_DUMPABLE, 0)


def show_memory() -> None:
    """Undo `hide_memory`, or what a change of user does likewise: a process needs it to write its own maps."""
    prctl(PR_SET_DUMPABLE, 1)


# --- user and capabilities -------------------------------------------------------------------------


def become_user(uid: int, *, keeps_groups: bool = False) -> None:
    """Become a user and group of this number, without a way back. The death signal is cleared by it.

    Giving up further groups is root's right, also of groups that mean nothing in here.
    """
    if not keeps_groups:
        os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def bound_capabilities() -> None:
    """Give up what executing a file could bring back of capabilities, for this process and all that it starts."""
    number = 0
    while True:
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError:  # past the last one that this kernel knows
            break
        number += 1
    drop_ambient_capabilities()


def drop_ambient_capabilities() -> None:
    """Give up what is kept over the execution of a file, for all that this process starts."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def drop_capabilities() -> None:
    """Give up every capability that this process has."""
    _call("capset", _CAPABILITIES_OF_SELF, _NO_CAPABILITIES)


# --- namespaces and mounts -------------------------------------------------------------------------


def clone(flags: int) -> int:
    """Fork into new namespaces; return the child's process id, 0 in the child.

    With CLONE_PARENT the child is one of this process's parent.

    The bare system call, behind the back of libc: good for a process with one thread, which has no locks to mend.
    """
    number = _SYS_CLONE.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"clone is not known for {os.uname().machine}")
    return _call("syscall", number, flags | signal.SIGCHLD, 0, 0, 0, 0)


def unshare(flags: int) -> None:
    """Leave the namespaces of the parent for new ones."""
    _call("unshare", flags)


def enter_namespace(fd: int, kind: int) -> None:
    """Go to the namespace, of a kind said by its CLONE flag, that a descriptor stands for."""
    _call("setns", fd, kind)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount; an empty source or kind is NULL."""
    _call("mount", _text(source), target.encode(), _text(kind), flags, _text(options))


def unmount(target: str) -> None:
    """Take a mount away, at once from sight, for good when its last user is gone."""
    _call("umount2", target.encode(), MNT_DETACH)


def restrict_mounts(target: str, attributes: int) -> None:
    """Add attributes to a mount and all below it."""
    record = struct.pack("QQQQ", attributes, 0, 0, 0)
    _call("syscall", _SYS_MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE, record, len(record))


def enter_root(folder: str) -> None:
    """Make a mount this process's root, and take the old root with all its mounts away."""
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"pivot_root is not known for {os.uname().machine}")
    os.chdir(folder)
    # The old root is put over the new one, and what is on top is what umount takes.
    _call("syscall", number, b".", b".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def raise_loopback() -> None:
    """Switch the network namespace's own loopback on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _LOOPBACK_UP)


def remove_object(kind: str, number: int) -> None:
    """Remove a System V object, of kind shm, sem or msg, by its number."""
    if kind == "sem":
        _call("semctl", number, 0, _IPC_RMID, 0)
    else:
        _call(f"{kind}ctl", number, _IPC_RMID, 0)


# --- filters ---------------------------------------------------------------------------------------


class FilterProgram(ctypes.Structure):
    """A seccomp filter as the kernel takes it."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    def __init__(self, instructions: bytes) -> None:
        """Take struct sock_filter, one after the other."""
        super().__init__(len(instructions) // 8, instructions)
        self.pointer = ctypes.byref(self)


def load_filter(program: FilterProgram) -> None:
    """Put a seccomp filter over this process and all it starts, for ever; needs `forbid_new_privileges`."""
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program.pointer)


def landlock_abi() -> int:
    """Return the version of Landlock that this kernel offers, 0 when it offers none."""
    try:
        return _call("syscall", _SYS_LANDLOCK_CREATE_RULESET, 0, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0


def landlock_ruleset(filesystem: int, network: int, scopes: int) -> int:
    """Return the descriptor of a ruleset that denies these accesses unless a rule allows them."""
    attributes = struct.pack("QQQ", filesystem, network, scopes)
    return _call("syscall", _SYS_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)


def landlock_allow(ruleset: int, accesses: int, path: str) -> None:
    """Allow accesses to a file, or beneath a folder."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", accesses, fd)
        _call("syscall", _SYS_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)


def landlock_restrict(ruleset: int) -> None:
    """Put the ruleset over this process and all it starts, for ever; needs `forbid_new_privileges`."""
    _call("syscall", _SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)


def _text(value: str) -> bytes | None:
    return value.encode() if value else None
