"""The filter of system calls: its verdicts one by one, beside libseccomp's, and in a real kernel."""

from __future__ import annotations

import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from worker_node.sandbox import seccomp

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
EPERM, ENOSYS, EAFNOSUPPORT = (0x50000 | error for error in (1, 38, 97))

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003, "arm": 0x40000028}
MACHINES = ("x86_64", "aarch64")

ALWAYS_DENIED = {
    EPERM: """
        setns mount umount2 pivot_root chroot move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick
        mount_setattr name_to_handle_at open_by_handle_at fanotify_init lookup_dcookie nfsservctl bpf perf_event_open
        keyctl add_key request_key userfaultfd memfd_secret kexec_load kexec_file_load init_module finit_module
        delete_module iopl ioperm reboot swapon swapoff quotactl quotactl_fd acct syslog vhangup uselib ustat sysfs
        settimeofday clock_settime clock_adjtime""",
    ENOSYS: "clone3 io_uring_setup io_uring_enter io_uring_register",
}
HIDDEN_MEMORY = ("memfd_create", "shmget", "shmat", "shmctl", "semget", "msgget")
ONLY_ON_X86 = {"iopl", "ioperm", "uselib", "ustat", "sysfs"}
ORDINARY = {
    "x86_64": {"read": 0, "mmap": 9, "fork": 57, "mknod": 133, "adjtimex": 159, "ptrace": 101, "exit_group": 231},
    "aarch64": {"mknodat": 33, "read": 63, "ptrace": 117, "adjtimex": 171, "mmap": 222, "execveat": 281},
}
NAMESPACE_FLAGS = (1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30)
HARMLESS_UNSHARE_FLAGS = (0x100, 0x200, 0x400, 0x800, 0x10000, 0x40000)
PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)
HIGH_BITS = 1 << 32

JUDGED_BY_ARGUMENTS = [
    # What fork, posix_spawn and pthread_create of a C library ask for; bit 7 is part of the signal here.
    *[("clone", (flags,), ALLOW) for flags in (0x11, 0x01200011, 0x4111, 0x3D0F00, 0x80000011, 0x91)],
    *[("clone", (flag | 0x11,), EPERM) for flag in NAMESPACE_FLAGS],
    ("clone", (HIGH_BITS | 1 << 28,), EPERM),
    *[("unshare", (flag,), ALLOW) for flag in (0, *HARMLESS_UNSHARE_FLAGS)],
    *[("unshare", (flag,), EPERM) for flag in (*NAMESPACE_FLAGS, 0x80, 0x100000, HIGH_BITS, 1 << 63)],
    ("unshare", (0x10000400,), EPERM),
    *[("personality", (value,), ALLOW) for value in (*PERSONALITIES, 0xFFFFFFFFFFFFFFFF)],
    *[("personality", (value,), EPERM) for value in (1, 0x400000, 0x440000, 0xFFFFFFFE, HIGH_BITS | 1)],
    *[("ioctl", (0, value), EPERM) for value in (0x5412, 0x541C, HIGH_BITS | 0x5412, 0xFFFFFFFF0000541C)],
    *[("ioctl", (0x5412, value), ALLOW) for value in (0, 0x5401, 0x5413, 0x541B, 0x15412, HIGH_BITS)],
    *[("socket", (family, kind), ALLOW) for family in (1, 2, 10) for kind in (1, 2, 0x80801, 5)],
    *[("socket", (family, 1), EAFNOSUPPORT) for family in (0, 3, 9, 16, 17, 40, 0x10001, 0xFFFFFFFF, HIGH_BITS)],
    *[("socket", (family, kind), EPERM) for family in (1, 2, 10) for kind in (3, 10, 0x80003, 0x13, HIGH_BITS | 3)],
    ("socket", (HIGH_BITS | 2, 1), ALLOW),
    ("socket", (HIGH_BITS | 16, 3), EAFNOSUPPORT),
    *[("socketpair", (1, kind), ALLOW) for kind in (1, 2, 5)],
    ("socketpair", (30, 1), EAFNOSUPPORT),
    ("socketpair", (1, 3), EPERM),
]


def number_of(machine: str, name: str) -> int | None:
    """Return the number by our own table, which is compared with libseccomp's below."""
    return (seccomp._NUMBERS[machine] | seccomp._SHARED_NUMBERS)[name]


def verdict(program: bytes, arch: int, number: int, *arguments: int, trace: list | None = None) -> int:
    """Do what the kernel does with a filter: run it over one system call; collect the steps in `trace`."""
    padded = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *[0] * 6)][:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0x7FFF12345678, *padded)
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if trace is not None:
            trace.append((code, operand))
        if code == 0x06:
            return operand
        if code == 0x20:
            assert operand % 4 == 0, "the kernel refuses such a load"
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x05:
            at += operand
        else:
            conditions = {
                0x15: accumulator == operand,
                0x25: accumulator > operand,
                0x35: accumulator >= operand,
                0x45: accumulator & operand != 0,
            }
            at += if_true if conditions[code] else if_false


def verdict_here(machine: str, number: int, *arguments: int, denies_hidden_memory: bool = False) -> int:
    """Return the verdict on a call of the machine's own kind."""
    program = seccomp.build_filter(machine, denies_hidden_memory=denies_hidden_memory)
    return verdict(program, ARCHITECTURES[machine], number, *arguments)


# --- verdicts one by one -----------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "arguments", "expected"), JUDGED_BY_ARGUMENTS)
def test_a_call_is_judged_by_its_arguments(machine, name, arguments, expected):
    """The bits that the kernel looks at decide, and no others."""
    assert verdict_here(machine, number_of(machine, name), *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_listed_calls_fail_whatever_their_arguments(machine):
    """Each with its error, on every machine that has the call."""
    for expected, names in ALWAYS_DENIED.items():
        for name in names.split():
            number = number_of(machine, name)
            if number is None:
                assert (machine, name in ONLY_ON_X86) == ("aarch64", True)
                continue
            for arguments in ((), (1, 2, 3, 4, 5, 6), (-1,) * 6):
                assert verdict_here(machine, number, *arguments) == expected, name


@pytest.mark.parametrize("machine", MACHINES)
def test_hidden_memory_is_there_unless_it_is_denied(machine):
    """Only a host that polls the memory limit takes it away."""
    for name in HIDDEN_MEMORY:
        number = number_of(machine, name)
        assert verdict_here(machine, number) == ALLOW
        assert verdict_here(machine, number, denies_hidden_memory=True) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_what_nobody_listed_passes(machine):
    """Ordinary calls, and numbers that no kernel knows yet."""
    for number in (*ORDINARY[machine].values(), 466, 468, 600, 10_000, 0x3FFFFFFF, 0x80000000, 0xFFFFFFFF):
        assert verdict_here(machine, number, -1, -1, denies_hidden_memory=True) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("number", [0, 1, 39, 435, 10_000])
def test_calls_of_another_machine_kill(machine, number):
    """A number means something else there: int 0x80 would walk around every rule."""
    program = seccomp.build_filter(machine, denies_hidden_memory=False)
    for name, arch in ARCHITECTURES.items():
        if name != machine:
            assert verdict(program, arch, number) == KILL_PROCESS


@pytest.mark.parametrize("number", [0x40000000, 0x40000001, 0x40000202, 0x7FFFFFFF, 0xFFFFFFFE, 512, 514, 547])
def test_calls_of_x32_kill(number):
    """They come under the name x86_64 with numbers of their own."""
    assert verdict_here("x86_64", number) == KILL_PROCESS


@pytest.mark.parametrize("number", [511, 548, 0xFFFFFFFF])
def test_what_lies_beside_x32_passes(number):
    """Minus one is no call: a debugger writes it over a call that shall not happen."""
    assert verdict_here("x86_64", number) == ALLOW


@pytest.mark.parametrize("machine", ["armv7l", "i686", "riscv64", "aarch64_be", ""])
def test_an_unknown_machine_is_named(machine):
    """A guess at numbers would be a hole."""
    with pytest.raises(seccomp.UnknownMachine, match=repr(machine)):
        seccomp.build_filter(machine, denies_hidden_memory=True)


# --- the program -------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_that_pass_are_found_fast(machine):
    """Twelve steps at most, and none looks at an argument: kernels then remember that the number passes."""
    program = seccomp.build_filter(machine, denies_hidden_memory=True)
    assert len(program) < 256 * 8
    for number in ORDINARY[machine].values():
        trace = []
        assert verdict(program, ARCHITECTURES[machine], number, trace=trace) == ALLOW
        assert len(trace) <= 12
        assert {operand for code, operand in trace if code == 0x20} == {0, 4}


def test_a_search_longer_than_a_conditional_jump_finds_its_way():
    """A condition skips 255 instructions at most; beyond that a plain jump helps."""
    ranges = [(number * 10, [(0x06, 0, 0, number)]) for number in range(700)]
    program = b"".join(
        struct.pack("<HBBI", *instruction) for instruction in [(0x20, 0, 0, 0), *seccomp._search(ranges)]
    )
    for number in (0, 9, 10, 2559, 2560, 3499, 3500, 6989, 6990, 0xFFFFFFFF):
        assert verdict(program, 0, number) == min(number // 10, 699)


def test_the_import_is_lean():
    """The spawner pays for every module in each of its forks."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import worker_node.sandbox.seccomp; print(*sys.modules)"
    root = Path(__file__).parents[3]
    modules = _run("-c", script, str(root)).split()
    assert "worker_node.sandbox.seccomp" in modules
    assert {"typing", "dataclasses", "pathlib", "enum", "re", "ctypes"}.isdisjoint(modules)


# --- beside libseccomp -------------------------------------------------------------------------------


def _libseccomp():
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"libseccomp or its Python binding is missing: {error}")
    return pyseccomp


def _complement(values: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return masks and values that together match every 32-bit number but these."""
    patterns = []
    for value, length in itertools.product(values, range(1, 33)):
        mask = 0xFFFFFFFF << (32 - length) & 0xFFFFFFFF
        other = (value ^ 1 << (32 - length)) & mask
        if all(each & mask != other for each in values):
            patterns.append((mask, other))
    return sorted(set(patterns))


def _reference(machine: str, *, denies_hidden_memory: bool) -> tuple[bytes, set[str]]:
    """Return libseccomp's program for the same policy, and the names that this libseccomp does not know."""
    lib = _libseccomp()
    arch = ARCHITECTURES[machine]
    policy = lib.SyscallFilter(ALLOW)
    policy.set_attr(lib.Attr.ACT_BADARCH, KILL_PROCESS)
    if arch != lib.system_arch():
        policy.add_arch(arch)
        policy.remove_arch(lib.system_arch())
    unknown = set()

    def deny(action: int, name: str, *conditions: tuple[int, int, int]) -> None:
        if -1 in (lib.resolve_syscall(arch, name), lib.resolve_syscall(lib.system_arch(), name)):
            unknown.add(name)
            return
        policy.add_rule(action, name, *[lib.Arg(at, lib.MASKED_EQ, mask, value) for at, mask, value in conditions])

    for action, names in ALWAYS_DENIED.items():
        for name in names.split():
            deny(action, name)
    for name in HIDDEN_MEMORY if denies_hidden_memory else ():
        deny(ENOSYS, name)
    for flag in NAMESPACE_FLAGS:
        deny(EPERM, "clone", (0, flag, flag))
    for flag in {1 << bit for bit in range(64)} - set(HARMLESS_UNSHARE_FLAGS):
        deny(EPERM, "unshare", (0, flag, flag))
    for mask, value in _complement(PERSONALITIES):
        deny(EPERM, "personality", (0, mask, value))
    for request in (0x5412, 0x541C):
        deny(EPERM, "ioctl", (1, 0xFFFFFFFF, request))
    for name in ("socket", "socketpair"):
        for mask, value in _complement((1, 2, 10)):
            deny(EAFNOSUPPORT, name, (0, mask, value))
        for family, kind in itertools.product((1, 2, 10), (3, 10)):
            deny(EPERM, name, (0, 0xFFFFFFFF, family), (1, 0xF, kind))
    with tempfile.TemporaryFile() as file:
        policy.export_bpf(file)
        file.seek(0)
        return file.read(), unknown


@pytest.mark.skipif(sys.platform != "linux", reason="libseccomp is for Linux")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("denies_hidden_memory", [False, True])
def test_libseccomp_builds_the_same_verdicts(machine, denies_hidden_memory):
    """Another program of the same policy, with numbers from another hand, never disagrees."""
    theirs, unknown = _reference(machine, denies_hidden_memory=denies_hidden_memory)
    assert unknown <= {"open_tree_attr", "memfd_secret", "quotactl_fd", "mount_setattr"}, "numbers stay unchecked"
    ours = seccomp.build_filter(machine, denies_hidden_memory=denies_hidden_memory)
    by_arguments = {number_of(machine, name) for name, _, _ in JUDGED_BY_ARGUMENTS}
    left_out = {number_of(machine, name) for name in unknown}
    if machine == "x86_64":
        left_out |= set(range(512, 548))  # libseccomp takes them for unused numbers
    low = [0, *(1 << bit for bit in range(32)), 3, 9, 10, 0x5412, 0x541C, 0x20008, 0x3D0F00, 0xFFFFFFFF]
    first = [*low, *(high | value for high in (HIGH_BITS, -1 << 32) for value in (0, 2, 8, 16, 0x10000000))]
    second = [0, 1, 3, 10, 0x80003, 0x5412, 0x541C, HIGH_BITS | 3, HIGH_BITS | 0x5412, (-1 << 32) | 0x541C]
    calls = set()
    for number in (*(set(range(601)) - left_out), 0x3FFFFFFF, 0xFFFFFFFF):
        calls |= {(arch, number) for arch in ARCHITECTURES.values()}
        many = itertools.product(first, second) if number in by_arguments else [(1 << 28, 0x5412), (-1,) * 6]
        calls |= {(ARCHITECTURES[machine], number, *arguments) for arguments in many}
    assert [call for call in calls if verdict(ours, *call) != verdict(theirs, *call)] == []


# --- in a real kernel --------------------------------------------------------------------------------

IN_A_REAL_KERNEL = r"""
import ctypes, json, mmap, os, resource, socket, subprocess, sys, threading
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
order = json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

def error_of(name, *arguments):
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(order["numbers"][name]), *map(ctypes.c_ulong, arguments))
    return ctypes.get_errno()

def signal_of(action):
    pid = os.fork()
    if pid == 0:
        action()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])

def call_32_bit():
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000cd80c3"))  # getpid, by int 0x80
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()

code = bytes.fromhex(order["filter"])
zero = ctypes.c_ulong(0)
assert libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) == 0
if libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(Program(len(code) // 8, code)), zero, zero) != 0:
    print(json.dumps({"refused": os.strerror(ctypes.get_errno())}))
    sys.exit()
null = os.open("/dev/null", os.O_RDWR)
found = {"errors": {
    "clone3": error_of("clone3", 0, 0), "unshare": error_of("unshare", 1 << 26), "files": error_of("unshare", 0x400),
    "clone": error_of("clone", 1 << 28 | 17, 0, 0, 0, 0), "io_uring": error_of("io_uring_setup", 1, 0),
    "memfd": error_of("memfd_create", ctypes.addressof(ctypes.create_string_buffer(b"m")), 0),
    "netlink": error_of("socket", 16, 3, 0), "raw": error_of("socket", 2, 3, 1),
    "type": error_of("ioctl", null, 0x5412, 0), "type, high bits": error_of("ioctl", null, 1 << 32 | 0x5412, 0),
    "other request": error_of("ioctl", null, 0x5413, 0), "personality": error_of("personality", 0x400000),
    "bpf": error_of("bpf", 0, 0, 0), "keyctl": error_of("keyctl", 0, 0, 0),
}}
ran = []
thread = threading.Thread(target=ran.append, args=(1,))
thread.start()
thread.join()
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), timeout=10)
client.sendall(b"hello")
found["ordinary"] = {
    "thread": ran, "subprocess": subprocess.run(["/bin/sh", "-c", "echo out | cat; exit 7"], capture_output=True).returncode,
    "loopback": server.accept()[0].recv(5).decode(), "pair": len(socket.socketpair()), "fork": signal_of(lambda: None),
}
if os.uname().machine == "x86_64":
    found["killed by"] = [signal_of(call_32_bit), signal_of(lambda: libc.syscall(ctypes.c_long(0x40000000 + 39)))]
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is Linux")
@pytest.mark.parametrize("denies_hidden_memory", [False, True])
def test_a_real_kernel_obeys(denies_hidden_memory):
    """What is denied fails with its error, other machines' calls kill, and ordinary programs notice nothing."""
    machine = os.uname().machine
    if machine not in MACHINES or sys.maxsize < 2**32:
        pytest.skip(f"no filter for this interpreter on {machine}")
    program = seccomp.build_filter(machine, denies_hidden_memory=denies_hidden_memory)
    numbers = seccomp._NUMBERS[machine] | seccomp._SHARED_NUMBERS
    found = json.loads(_run("-c", IN_A_REAL_KERNEL, text=json.dumps({"filter": program.hex(), "numbers": numbers})))
    if "refused" in found:
        pytest.skip(f"this kernel takes no filter: {found['refused']}")
    assert found["errors"] == {
        "clone3": 38, "unshare": 1, "files": 0, "clone": 1, "io_uring": 38, "memfd": 38 if denies_hidden_memory else 0,
        "netlink": 97, "raw": 1, "type": 1, "type, high bits": 1, "other request": 25, "personality": 1, "bpf": 1,
        "keyctl": 1,
    }  # fmt: skip
    assert found["ordinary"] == {"thread": [1], "subprocess": 7, "loopback": "hello", "pair": 2, "fork": 0}
    # A kernel without 32-bit programs answers int 0x80 with SIGSEGV before any filter is asked.
    assert found.get("killed by", [31, 31]) in ([signal.SIGSYS, signal.SIGSYS], [signal.SIGSEGV, signal.SIGSYS])


def _run(*arguments: str, text: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
