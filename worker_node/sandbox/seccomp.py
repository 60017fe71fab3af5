"""The system calls that a sandboxed command may not make, as a program for the kernel. Builds bytes, makes no call.

Theory of operation. Before each system call of the command the kernel runs the program over the call's number,
machine and arguments, and obeys its verdict. The program is a list of denials: what nobody denied passes, so new
calls of new kernels work, and nothing rests on this list alone. The command already lives in namespaces of its
own, without capabilities and without new privileges; the list closes the ways to new namespaces, to parts of the
kernel that have had more than their share of holes, and to what no namespace divides.

Only numbers and arguments can be judged, not what a pointer leads to. That is why clone3, which takes its flags
behind a pointer, does not exist here, and why no address of a socket is seen: a command that shares the host's
network reaches the host's abstract UNIX sockets, unless Landlock scopes them. Apart from that, a command with
network and one without need the same program: the second has a network of its own with only a loopback in it, and
what it runs may well need 127.0.0.1.

Standard library only, and little of it: the spawner imports it.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

    Instruction = tuple[int, int, int, int]
    """Code, how many instructions to skip if true, how many if false, operand."""
    Block = list[Instruction]

# The kernel's verdicts. Errors have Linux's numbers, wherever this module is imported.
_ALLOW: Final = 0x7FFF_0000
_KILL_PROCESS: Final = 0x8000_0000
_ERRNO: Final = 0x0005_0000
_EPERM: Final = _ERRNO | 1
_ENOSYS: Final = _ERRNO | 38
_EAFNOSUPPORT: Final = _ERRNO | 97

# The codes of the instructions in use. They know one register, the accumulator.
_LOAD: Final = 0x20
_AND: Final = 0x54
_JUMP: Final = 0x05
_IF_EQUAL: Final = 0x15
_IF_NOT_BELOW: Final = 0x35
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_LONGEST_BRANCH: Final = 255
"""Instructions that a condition can skip; a plain jump has no such bound."""

# Where struct seccomp_data keeps what is judged.
_NUMBER: Final = 0
_MACHINE: Final = 4
_ARGUMENTS: Final = 16

_LOW_32_BITS: Final = 0xFFFF_FFFF
_X32_BIT: Final = 0x4000_0000
_X32_NUMBERS: Final = range(512, 548)
"""Calls of x32 that kernels before 5.4 also took without the bit. They never mean anything else."""
_CANCELLED: Final = 0xFFFF_FFFF
"""The number that a debugger writes over a call so that nothing is done."""

_NAMESPACE_FLAGS: Final = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. clone cannot make a time namespace: the bit of
CLONE_NEWTIME belongs to the signal that tells of the child's end there."""
_HARMLESS_UNSHARE_FLAGS: Final = 0x0005_0F00
"""CLONE_VM, FS, FILES, SIGHAND, THREAD and SYSVSEM. The others are not listed but all denied: newer kernels gave
further bits to namespaces, of which UNSHARE_EMPTY_MNTNS is not even called CLONE_NEW."""

_PERSONALITIES: Final = (0, 0x0008, 0x2_0000, 0x2_0008, 0x4_0000, 0xFFFF_FFFF)
"""PER_LINUX and PER_LINUX32, each also with UNAME26; ADDR_NO_RANDOMIZE, for debuggers; the question which it is."""
_SOCKET_FAMILIES: Final = (1, 2, 10)
"""UNIX, INET and INET6. The other forty are where the holes are, and most load a module of the kernel when asked.
NETLINK is one of them: a command cannot list network interfaces."""
_RAW_SOCKET_TYPES: Final = (3, 10)
"""SOCK_RAW and SOCK_PACKET."""
_SOCKET_TYPE_BITS: Final = 0xF
"""Above them are flags such as SOCK_CLOEXEC."""
_TERMINAL_REQUESTS: Final = (0x5412, 0x541C)
"""TIOCSTI types into the terminal of whoever started the worker, TIOCLINUX pastes there."""

_DENIED: Final = (
    # Namespaces: clone3 hides its flags from us. Without it, C libraries use clone, which is judged below.
    (_ENOSYS, "clone3"),
    (_EPERM, "setns"),
    # The tree of files, and ways to a file that do not go through it.
    (_EPERM, "mount umount2 pivot_root chroot move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick"),
    (_EPERM, "mount_setattr name_to_handle_at open_by_handle_at fanotify_init lookup_dcookie nfsservctl"),
    # Programs inside the kernel. libuv and others do without io_uring when it seems not to be there.
    (_EPERM, "bpf perf_event_open"),
    (_ENOSYS, "io_uring_setup io_uring_enter io_uring_register"),
    # Keys belong to the user, whatever the namespace.
    (_EPERM, "keyctl add_key request_key"),
    # Help for exploits more than for programs: page faults held up at will, memory that not even the kernel sees.
    (_EPERM, "userfaultfd memfd_secret"),
    # The machine itself.
    (_EPERM, "kexec_load kexec_file_load init_module finit_module delete_module iopl ioperm reboot"),
    (_EPERM, "swapon swapoff quotactl quotactl_fd acct syslog vhangup uselib ustat sysfs"),
    # Clocks, also those given by a descriptor, where the kernel asks for no right. adjtimex passes: it mostly reads,
    # and the kernel does ask when it is to set something. (glibc reads through clock_adjtime, and is refused.)
    (_EPERM, "settimeofday clock_settime clock_adjtime"),
)
_HIDDEN_MEMORY: Final = "memfd_create shmget shmat shmctl semget msgget"
"""Memory that stays although no process has it mapped, and so counts in nobody's resident size."""

# fmt: off
_NUMBERS: Final[dict[str, dict[str, int | None]]] = {
    "x86_64": {
        "ioctl": 16, "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "msgget": 68, "socket": 41, "socketpair": 53, "clone": 56,
        "syslog": 103, "uselib": 134, "personality": 135, "ustat": 136, "sysfs": 139, "vhangup": 153,
        "pivot_root": 155, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166,
        "swapon": 167, "swapoff": 168, "reboot": 169, "iopl": 172, "ioperm": 173, "init_module": 175,
        "delete_module": 176, "quotactl": 179, "nfsservctl": 180, "lookup_dcookie": 212, "clock_settime": 227,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
        "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304,
        "clock_adjtime": 305, "setns": 308, "finit_module": 313, "memfd_create": 319, "kexec_file_load": 320,
        "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "lookup_dcookie": 18, "ioctl": 29, "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42,
        "chroot": 51, "vhangup": 58, "quotactl": 60, "acct": 89, "personality": 92, "unshare": 97,
        "kexec_load": 104, "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116,
        "reboot": 142, "settimeofday": 170, "msgget": 186, "semget": 190, "shmget": 194, "shmctl": 195, "shmat": 196, "socket": 198,
        "socketpair": 199, "add_key": 217, "request_key": 218, "keyctl": 219, "clone": 220, "swapon": 224,
        "swapoff": 225, "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "finit_module": 273, "memfd_create": 279,
        "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
        # Never there; said so that a misspelt name is an error and not a hole.
        "uselib": None, "ustat": None, "sysfs": None, "iopl": None, "ioperm": None,
    },
}
_SHARED_NUMBERS: Final[dict[str, int | None]] = {
    # Calls younger than Linux 5.0 have the same number on every machine.
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "clone3": 435, "mount_setattr": 442,
    "quotactl_fd": 443, "memfd_secret": 447, "open_tree_attr": 467,
}
# fmt: on
_AUDIT_NAMES: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
"""What the kernel calls the machine when it asks for a verdict."""


class UnknownMachine(ValueError):
    """The numbers of this machine's system calls are not known, so no filter can be built for it."""


def build_filter(machine: str, *, denies_hidden_memory: bool) -> bytes:
    """Return the program for prctl(PR_SET_SECCOMP), as struct sock_filter one after the other.

    `machine` is what os.uname() says. The program ends 32-bit processes, so a 32-bit worker on a 64-bit kernel must
    not use it. `denies_hidden_memory` is for hosts where the memory limit is polled, which sees only what processes
    have mapped.
    """
    if machine not in _NUMBERS:
        raise UnknownMachine(f"no system call numbers for machine {machine!r}")
    program = [
        (_LOAD, 0, 0, _MACHINE),
        (_IF_EQUAL, 1, 0, _AUDIT_NAMES[machine]),
        # The same number means another call there: no rule below would hold.
        *_end(_KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    blocks = _blocks(_NUMBERS[machine] | _SHARED_NUMBERS, denies_hidden_memory=denies_hidden_memory)
    if machine == "x86_64":
        program += [(_IF_ANY_BIT, 0, 2, _X32_BIT), (_IF_EQUAL, 1, 0, _CANCELLED), *_end(_KILL_PROCESS)]
        blocks.update(dict.fromkeys(_X32_NUMBERS, _end(_KILL_PROCESS)))
    program += _search(_ranges(blocks))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


# --- the rules ---------------------------------------------------------------------------------------


def _blocks(numbers: dict[str, int | None], *, denies_hidden_memory: bool) -> dict[int, Block]:
    """Return what is to be done for each number that does not simply pass."""
    rules = {name: _end(verdict) for verdict, names in _DENIED for name in names.split()}
    if denies_hidden_memory:
        rules |= {name: _end(_ENOSYS) for name in _HIDDEN_MEMORY.split()}
    sockets = [
        *_deny_all_but(0, _SOCKET_FAMILIES, _EAFNOSUPPORT),
        *_deny_values(1, _SOCKET_TYPE_BITS, _RAW_SOCKET_TYPES, _EPERM),
        *_end(_ALLOW),
    ]
    rules |= {
        "clone": [*_deny_bits(0, _NAMESPACE_FLAGS, _EPERM), *_end(_ALLOW)],
        "unshare": [*_deny_bits(0, ~_HARMLESS_UNSHARE_FLAGS, _EPERM), *_end(_ALLOW)],
        "personality": [*_deny_all_but(0, _PERSONALITIES, _EPERM), *_end(_ALLOW)],
        # The kernel looks at 32 bits of the request, and so must we: whoever compares all 64 lets through what only
        # differs above (CVE-2019-10063).
        "ioctl": [*_deny_values(1, _LOW_32_BITS, _TERMINAL_REQUESTS, _EPERM), *_end(_ALLOW)],
        "socket": sockets,
        "socketpair": sockets,
    }
    return {number: block for name, block in rules.items() if (number := numbers[name]) is not None}


# Each of these denies or goes on with the instruction after its own.


def _deny_bits(argument: int, bits: int, verdict: int) -> Block:
    """Deny if any of these 64 bits is set."""
    block = []
    for offset, half in ((4, bits >> 32 & _LOW_32_BITS), (0, bits & _LOW_32_BITS)):
        if half:
            block += [_load(argument, offset), (_IF_ANY_BIT, 0, 1, half), *_end(verdict)]
    return block


def _deny_values(argument: int, mask: int, values: tuple[int, ...], verdict: int) -> Block:
    """Deny if the argument under the mask is one of these; its upper 32 bits are not looked at."""
    *first, last = values
    tests = [(_IF_EQUAL, len(values) - 1 - index, 0, value) for index, value in enumerate(first)]
    return [_load(argument), (_AND, 0, 0, mask), *tests, (_IF_EQUAL, 0, 1, last), *_end(verdict)]


def _deny_all_but(argument: int, values: tuple[int, ...], verdict: int) -> Block:
    """Deny unless the argument is one of these; its upper 32 bits are not looked at."""
    tests = [(_IF_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [_load(argument), *tests, *_end(verdict)]


def _load(argument: int, offset: int = 0) -> Instruction:
    # Both machines are little-endian: the lower half comes first.
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument + offset)


def _end(verdict: int) -> Block:
    return [(_RETURN, 0, 0, verdict)]


# --- the search for the number -----------------------------------------------------------------------


def _ranges(blocks: dict[int, Block]) -> list[tuple[int, Block]]:
    """Return all numbers as ranges that share a block: each by its first number, in order."""
    ranges: list[tuple[int, Block]] = [(0, _end(_ALLOW))]
    for number in sorted(blocks):
        for first, block in ((number, blocks[number]), (number + 1, _end(_ALLOW))):
            if ranges[-1][0] == first:
                ranges.pop()
            if not ranges or ranges[-1][1] != block:
                ranges.append((first, block))
    return ranges


def _search(ranges: list[tuple[int, Block]]) -> Block:
    """Return a binary search that ends in the block of the number's range.

    It runs at every call of the command: seven comparisons instead of seventy. It looks at the number alone, so
    that kernels since 5.11 can tell which numbers always pass, and do not even run the program for them.
    """
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    if len(below) <= _LONGEST_BRANCH:
        return [(_IF_NOT_BELOW, len(below), 0, ranges[middle][0]), *below, *above]
    return [(_IF_NOT_BELOW, 0, 1, ranges[middle][0]), (_JUMP, 0, 0, len(below)), *below, *above]
