"""What a hostile command may try: each attack in one sentence and a few lines of Python that run inside the sandbox.

An attack knows of the host what is written into its text, and has nothing but the system's Python: no package, no
file of ours. Its code raises OSError where the system says no; `check` says no by a reason of its own, and
`not_here` that the question does not arise. Who comes to the last line has escaped. So each attack prints one line:

    ESCAPED | stopped: EACCES | n/a: only x86-64 has these calls

An attack that is stopped proves nothing unless it succeeds where nothing stops it. Therefore all of them also run
without a sandbox. Some leave a trace on the host, and there the host has the last word: writing to /tmp is no
escape if the host's /tmp is empty.

The list is one file although it is long: it is read as a list.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto

_PRELUDE = """
import ctypes, errno, os, select, signal, socket, stat, sys, time

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": dict(ioctl=16, ptrace=101, init_module=175, add_key=248, keyctl=250, perf_event_open=298, bpf=321,
                   userfaultfd=323, io_uring_setup=425),
    "aarch64": dict(ioctl=29, ptrace=117, init_module=105, add_key=217, keyctl=219, perf_event_open=241, bpf=280,
                    userfaultfd=282, io_uring_setup=425),
}

class Stopped(Exception):
    pass

class NotHere(Exception):
    pass

def check(is_so, otherwise):
    if not is_so:
        raise Stopped(otherwise)

def not_here(why):
    raise NotHere(why)

def answer(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result

def call(name, *arguments):
    return answer(getattr(libc, name)(*arguments))

def syscall(name, *arguments):
    numbers = NUMBERS.get(os.uname().machine) or not_here("numbers of this machine's calls unknown")
    plain = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return answer(libc.syscall(ctypes.c_long(numbers[name] if isinstance(name, str) else name), *plain))

def is_host_file(fd, identity):
    status = os.fstat(fd)
    return [status.st_dev, status.st_ino] == identity

def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]

def pid_with(word):
    # Whole words only: this program's own text stands in its command line, too.
    for pid in pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if word.encode() in file.read().split(b"\\0"):
                    return pid
        except OSError:
            continue
    return None

def first_that_works(actions):
    error = Stopped("nothing to try")
    for action in actions:
        try:
            return action()
        except (OSError, Stopped) as failed:
            error = failed
    raise error
"""

_ENDING = """
def verdict():
    try:
        attack()
        return "ESCAPED"
    except Stopped as reason:
        return f"stopped: {reason}"
    except NotHere as reason:
        return f"n/a: {reason}"
    except OSError as error:
        return f"stopped: {errno.errorcode.get(error.errno, error)}"

# In a child, so that a filter which kills is told too.
child = os.fork()
if child == 0:
    print(verdict(), flush=True)
    os._exit(0)
status = os.waitpid(child, 0)[1]
if os.WIFSIGNALED(status):
    print("stopped:", signal.Signals(os.WTERMSIG(status)).name)
"""


class Trace(StrEnum):
    """What an attack that succeeded leaves for the host to see."""

    FILE = auto()
    """A file named by the mark in one of the folders that everybody may write to."""
    PROCESS = auto()
    """A process that carries the mark and outlives its command."""
    SHARED_MEMORY = auto()
    """A System V segment with the key."""
    QUEUE = auto()
    """A POSIX message queue named by the mark."""
    SIGNAL_TO_HOST = auto()
    """The process on the host got the signal."""
    SIGNAL_TO_NEIGHBOUR = auto()
    """The process of another task got the signal."""


@dataclass(frozen=True)
class Attack:
    """One attempt at what a sandbox must not allow."""

    name: str
    tries: str
    code: str
    needs: str = ""
    """What a machine must have for the attack to succeed even without a sandbox; empty when any Linux will do."""
    trace: Trace | None = None

    def program(self, facts: Mapping[str, object]) -> str:
        """Return the text for `python3 -I -c`, with the host's facts as constants."""
        constants = "".join(f"{name} = {value!r}\n" for name, value in facts.items())
        body = textwrap.indent(textwrap.dedent(self.code).strip(), "    ")
        return f"{_PRELUDE}\n{constants}\ndef attack():\n{body}\n{_ENDING}"


FILES = [
    Attack(
        "read_shadow",
        "Read the passwords of the system, which only root may.",
        """
        with open("/etc/shadow", "rb") as file:
            check(is_host_file(file.fileno(), SHADOW), "another /etc/shadow")
            file.read(1)
        """,
    ),
    Attack(
        "read_worker_key",
        "Read the worker's private key, a file of mode 0600 in its state folder.",
        """
        with open(KEY_PATH) as file:
            check(file.read() == KEY, "another file")
        """,
    ),
    Attack(
        "read_other_workspace",
        "Read a file in the folder of another task that runs at the same level, by its path or through /proc.",
        """
        def reading(path):
            def read():
                with open(path) as file:
                    check(file.read() == NEIGHBOUR_SECRET, "another file")
            return read

        folders = [f"/proc/{pid}/{place}" for pid in pids() for place in ("cwd", "root/tmp")]
        first_that_works(reading(folder + "/secret") for folder in [*folders, *NEIGHBOUR_FOLDERS])
        """,
    ),
    Attack(
        "stat_host_file",
        "Learn that a file of the host exists, how large it is and whose.",
        """
        status = os.stat(PLANTED_PATH)
        check([status.st_dev, status.st_ino] == PLANTED, "another file")
        """,
    ),
    Attack(
        "list_home",
        "List the home folder of the worker's user, open to all as many systems make it.",
        """
        check("diary" in os.listdir(HOME_PATH), "another folder")
        """,
    ),
    Attack(
        "find_host_root",
        "Find the host's files below the roots of processes, below what a change of root left, or above one's own.",
        """
        def looking(root):
            def look():
                status = os.stat(root + PLANTED_PATH)
                check([status.st_dev, status.st_ino] == PLANTED, "another file")
            return look

        roots = ["/oldroot", "/old_root", "/.old_root", "/..", *(f"/proc/{pid}/root" for pid in pids())]
        first_that_works(map(looking, ["/proc/self/root", "/proc/thread-self/root", *roots]))
        """,
    ),
    Attack(
        "climb_out_of_root",
        "Change the root to a folder below while standing above it, and climb: the oldest way out of chroot.",
        """
        os.makedirs("cell", exist_ok=True)
        os.chroot("cell")
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        status = os.stat(PLANTED_PATH)
        check([status.st_dev, status.st_ino] == PLANTED, "another file")
        """,
    ),
    Attack(
        "open_by_handle",
        "Open a file of the host by its number in the file system, with no path at all.",
        """
        if HANDLE is None:
            not_here("this file system has no handles")

        class Handle(ctypes.Structure):
            _fields_ = [("length", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]

        data = bytes.fromhex(HANDLE[1])
        handle = Handle(len(data), HANDLE[0], (ctypes.c_ubyte * 128)(*data))
        folder = os.open("/usr", os.O_RDONLY)
        check(is_host_file(call("open_by_handle_at", folder, ctypes.byref(handle), os.O_RDONLY), HANDLE[2]), "another")
        """,
        needs="a file system with handles, and CAP_DAC_READ_SEARCH, which root lacks in many containers",
    ),
    Attack(
        "write_shared_folder",
        "Write to a folder of the host that is open to all.",
        """
        open(SHARED_PATH + "/" + MARK, "x").close()
        """,
        trace=Trace.FILE,
    ),
    Attack(
        "write_tmp",
        "Leave a file in the host's /tmp.",
        """
        open("/tmp/" + MARK, "x").close()
        """,
        trace=Trace.FILE,
    ),
    Attack(
        "write_var_tmp",
        "Leave a file in the host's /var/tmp.",
        """
        open("/var/tmp/" + MARK, "x").close()
        """,
        trace=Trace.FILE,
    ),
    Attack(
        "write_dev_shm",
        "Leave a file in the host's shared memory.",
        """
        open("/dev/shm/" + MARK, "x").close()
        """,
        trace=Trace.FILE,
    ),
    Attack(
        "write_etc",
        "Open a file of the host's /etc for writing; nothing is written.",
        """
        check(is_host_file(os.open("/etc/passwd", os.O_WRONLY), ETC_PASSWD), "another /etc")
        """,
        needs="a system that is not read-only to root",
    ),
    Attack(
        "write_usr",
        "Open a file of the host's /usr for writing; nothing is written.",
        """
        check(is_host_file(os.open(USR_FILE_PATH, os.O_WRONLY), USR_FILE), "another /usr")
        """,
        needs="a system that is not read-only to root",
    ),
    Attack(
        "find_writable_system",
        "Find a part of the host's system that is not mounted read-only, so that the owner of a file may change it.",
        """
        def is_writable(path, identity):
            status = os.stat(path)
            return [status.st_dev, status.st_ino] == identity and not os.statvfs(path).f_flag & os.ST_RDONLY

        found = [path for path, identity in SYSTEM if os.path.exists(path) and is_writable(path, identity)]
        check(found, "all of it is read-only")
        """,
        needs="a system that is not read-only to root",
    ),
    Attack(
        "make_device",
        "Make a device node in the own folder and read from the device.",
        """
        os.mknod("device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        with open("device", "rb") as device:
            check(device.read(1) == bytes(1), "another device")
        """,
        needs="CAP_MKNOD, and a disk that is mounted with devices",
    ),
]

SECRETS = [
    Attack(
        "read_own_environment",
        "Find a secret of the worker among the own environment variables.",
        """
        check(WORKER_SECRET in os.environ.values(), "not among the variables")
        """,
    ),
    Attack(
        "read_host_environment",
        "Find a secret in the environment of a process of the host, which has the worker's user.",
        """
        def reading(pid):
            def read():
                with open(f"/proc/{pid}/environ", "rb") as file:
                    check(HOST_SECRET.encode() in file.read(), "not in that environment")
            return read

        # The likeliest last: its error is the one that is told.
        first_that_works(map(reading, [*pids(), pid_with(HOST_MARK) or HOST_PID]))
        """,
    ),
    Attack(
        "use_inherited_descriptor",
        "Find an open descriptor besides the three that a command has.",
        """
        def is_open(fd):
            try:
                os.fstat(fd)
            except OSError:
                return False
            return True

        check(any(is_open(int(name)) for name in os.listdir("/proc/self/fd") if int(name) > 2), "three descriptors")
        """,
    ),
    Attack(
        "use_descriptor_of_host_process",
        "Open again, through /proc, what a process of the host has open.",
        """
        folder = f"/proc/{pid_with(HOST_MARK) or HOST_PID}/fd/"

        def opening(fd):
            def open_again():
                with open(folder + fd) as file:
                    check(file.read() == KEY, "another file")
            return open_again

        first_that_works(map(opening, [fd for fd in os.listdir(folder) if int(fd) > 2]))
        """,
    ),
]

NETWORK = [
    Attack(
        "connect_tcp_loopback",
        "Talk to a server that listens on the host's 127.0.0.1.",
        """
        with socket.create_connection(("127.0.0.1", TCP_PORT), timeout=2) as link:
            check(link.recv(64) == GREETING.encode(), "another server")
        """,
    ),
    Attack(
        "send_udp_loopback",
        "Send to a server on the host's 127.0.0.1 and hear from it.",
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(2)
            link.connect(("127.0.0.1", UDP_PORT))
            link.send(b"hello")
            check(link.recv(64) == GREETING.encode(), "another server")
        """,
    ),
    Attack(
        "connect_unix_socket",
        "Talk to a server of the host over a UNIX socket in a folder.",
        """
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(2)
            link.connect(SOCKET_PATH)
            check(link.recv(64) == GREETING.encode(), "another server")
        """,
    ),
    Attack(
        "connect_abstract_socket",
        "Talk to a server of the host over a UNIX socket that has a name but no file.",
        """
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(2)
            link.connect(chr(0) + ABSTRACT_NAME)
            check(link.recv(64) == GREETING.encode(), "another server")
        """,
    ),
    Attack(
        "open_vsock",
        "Open a socket to the hypervisor, which no network namespace divides.",
        """
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
        """,
        needs="a kernel with vsock",
    ),
    Attack(
        "open_netlink",
        "Open a socket to the kernel's network settings.",
        """
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            link.bind((0, 0))
        """,
    ),
    Attack(
        "open_crypto_socket",
        "Open a socket to the kernel's ciphers, a family with a history of holes.",
        """
        with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as link:
            link.bind(("hash", "sha256"))
        """,
        needs="a kernel with AF_ALG",
    ),
    Attack(
        "open_packet_socket",
        "Read and forge what is on the wire.",
        """
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
        """,
        needs="CAP_NET_RAW, which root lacks in some containers",
    ),
    Attack(
        "open_raw_socket",
        "Forge IP packets.",
        """
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
        """,
        needs="CAP_NET_RAW, which root lacks in some containers",
    ),
]

PROCESSES = [
    Attack(
        "see_host_process",
        "Find a process of the host in /proc and read its command line.",
        """
        check(pid_with(HOST_MARK), "not in /proc")
        """,
        needs="a /proc that shows the processes of other users, should the task have a user of its own",
    ),
    Attack(
        "signal_host_process",
        "Send a signal to a process of the host, which has the worker's user.",
        """
        os.kill(pid_with(HOST_MARK) or HOST_PID, signal.SIGUSR1)
        """,
        trace=Trace.SIGNAL_TO_HOST,
    ),
    Attack(
        "signal_other_task",
        "Send a signal to a process of another task that runs at the same level.",
        """
        def parent_of(pid):
            with open(f"/proc/{pid}/status") as file:
                return int(next(line for line in file if line.startswith("PPid:")).split()[1])

        nap = pid_with(NEIGHBOUR_NAP)
        os.kill(parent_of(nap) if nap else NEIGHBOUR_PID, signal.SIGUSR1)
        """,
        trace=Trace.SIGNAL_TO_NEIGHBOUR,
    ),
    Attack(
        "trace_host_process",
        "Attach to a process of the host as a debugger.",
        """
        PTRACE_SEIZE = 0x4206
        pid = pid_with(HOST_MARK)
        syscall("ptrace", PTRACE_SEIZE, pid or HOST_PID, 0, 0)
        check(pid, "another process")
        """,
        needs="no Yama, which lets only parents trace",
    ),
    Attack(
        "read_host_memory",
        "Read the memory of a process of the host.",
        """
        pid = pid_with(HOST_MARK) or HOST_PID
        with open(f"/proc/{pid}/maps") as maps:
            start = int(maps.readline().partition("-")[0], 16)
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            check(memory.read(4) == b"\\x7fELF", "another process")
        """,
        needs="no Yama, which lets only parents trace",
    ),
    Attack(
        "take_over_keeper",
        "Read the memory of the process that started this command and keeps it, or use what it has open.",
        """
        with open(f"/proc/{os.getppid()}/status") as file:
            keeper = int(next(line for line in file if line.startswith("PPid:")).split()[1])
        check(keeper, "it is in another process namespace")
        folder = f"/proc/{keeper}/"
        first_that_works([lambda: open(folder + "mem", "rb"), lambda: os.listdir(folder + "fd")])
        """,
    ),
    Attack(
        "hold_host_namespace",
        "Open a namespace of a process of the host.",
        """
        fd = os.open(f"/proc/{pid_with(HOST_MARK) or HOST_PID}/ns/mnt", os.O_RDONLY)
        check(os.fstat(fd).st_ino == MOUNT_NAMESPACE, "another namespace")
        """,
    ),
    Attack(
        "enter_host_namespace",
        "Enter the network namespace of a process of the host.",
        """
        fd = os.open(f"/proc/{pid_with(HOST_MARK) or HOST_PID}/ns/net", os.O_RDONLY)
        check(os.fstat(fd).st_ino == NETWORK_NAMESPACE, "another namespace")
        call("setns", fd, 0x40000000)
        """,
        needs="CAP_SYS_ADMIN, which root lacks in many containers",
    ),
    Attack(
        "leave_daemon",
        "Leave a process in a session of its own that lives on when the command is over.",
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                null = os.open("/dev/null", os.O_RDWR)
                for fd in range(3):
                    os.dup2(null, fd)
                os.execv(sys.executable, [sys.executable, "-I", "-c", "import time; time.sleep(30)", MARK])
            os._exit(0)
        os.wait()
        """,
        trace=Trace.PROCESS,
    ),
    Attack(
        "leave_shared_memory",
        "Leave a System V segment that lives on when the command is over.",
        """
        call("shmget", SHARED_MEMORY_KEY, 1 << 16, 0o1600)
        """,
        needs="a kernel with System V IPC",
        trace=Trace.SHARED_MEMORY,
    ),
    Attack(
        "leave_message_queue",
        "Leave a POSIX message queue that lives on when the command is over.",
        """
        queues = ctypes.CDLL("librt.so.1", use_errno=True)
        answer(queues.mq_open(("/" + MARK).encode(), os.O_CREAT | os.O_RDWR, 0o600, None))
        """,
        needs="a kernel with POSIX message queues",
        trace=Trace.QUEUE,
    ),
]

RIGHTS = [
    Attack(
        "gain_by_setuid",
        "Gain root's rights by executing a setuid program of the system.",
        """
        def status_of(pid):
            with open(f"/proc/{pid}/status") as file:
                return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}

        own = status_of("self")
        if os.getuid() == 0 and int(own["CapEff"], 16):
            not_here("root has nothing to gain")
        names = ("su", "chsh", "passwd", "mount", "newgrp", "sudo")
        programs = [path for name in names if os.path.exists(path := "/usr/bin/" + name)]
        program = next((path for path in programs if os.stat(path).st_mode & stat.S_ISUID), None)
        program or not_here("no setuid program on this system")
        # Its help goes to a full pipe, so it stands still with all rights it got and can be looked at.
        read, write = os.pipe()
        os.set_blocking(write, False)
        try:
            while True:
                os.write(write, bytes(4096))
        except BlockingIOError:
            os.set_blocking(write, True)
        pid = os.fork()
        if pid == 0:
            os.dup2(write, 1)
            os.dup2(write, 2)
            os.execv(program, [program, "--help"])
        until = time.monotonic() + 5
        while (now := status_of(pid))["Name"] == own["Name"]:
            check(time.monotonic() < until, "it never started")
            time.sleep(0.001)
        os.close(read)
        real, effective = now["Uid"].split()[:2]
        check(now["State"][0] != "Z", "it was over at once")
        check(real != effective, "it got no other user")
        """,
        needs="a setuid program in /usr/bin",
    ),
    Attack(
        "keep_way_to_privileges",
        "Be a process that executing a file could give new privileges.",
        """
        with open("/proc/self/status") as file:
            check("NoNewPrivs:\\t0" in file.read(), "no new privileges")
        """,
    ),
    Attack(
        "keep_capability",
        "Have a capability, or a bound that leaves it to a file to bring one.",
        """
        with open("/proc/self/status") as file:
            sets = [line for line in file if line.startswith(("CapPrm", "CapEff", "CapBnd", "CapAmb"))]
        check(any(int(line.split()[1], 16) for line in sets), "no capabilities and no bound")
        """,
    ),
    Attack(
        "raise_limit",
        "Raise a limit above its ceiling.",
        """
        import resource
        check(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, "there was no ceiling")
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
        except ValueError:
            check(False, "EPERM")
        """,
        needs="CAP_SYS_RESOURCE, which root lacks in some containers",
    ),
    Attack(
        "make_user_namespace",
        "Become root in a user namespace of one's own, where most of the kernel's holes are within reach.",
        """
        call("unshare", 0x10000000)
        """,
        needs="a kernel that lets ordinary users make user namespaces",
    ),
    Attack(
        "mount_in_user_namespace",
        "Mount a file system in namespaces of one's own.",
        """
        call("unshare", 0x10000000 | 0x20000)
        call("mount", b"tmpfs", b"/tmp", b"tmpfs", ctypes.c_ulong(0), None)
        """,
        needs="a kernel that lets ordinary users make user namespaces, with rights in them",
    ),
    Attack(
        "leave_cgroup",
        "Open the list of the topmost control group, to move oneself out of all limits; nothing is written.",
        """
        import glob

        def opening(path):
            return lambda: os.open(path, os.O_WRONLY)

        paths = ["/sys/fs/cgroup/cgroup.procs", *glob.glob("/sys/fs/cgroup/*/cgroup.procs")]
        first_that_works(map(opening, paths))
        """,
        needs="control groups that root may change, which containers mount read-only",
    ),
    Attack(
        "learn_host_name",
        "Learn what the host is called.",
        """
        check(os.uname().nodename == HOST_NAME, "another name")
        """,
    ),
    Attack(
        "set_host_name",
        "Set the host's name, to the one that it has.",
        """
        check(os.stat("/proc/self/ns/uts").st_ino == HOST_NAME_NAMESPACE, "a host name of its own")
        socket.sethostname(socket.gethostname())
        """,
        needs="CAP_SYS_ADMIN, which root lacks in many containers",
    ),
    Attack(
        "read_kernel_memory",
        "Read the kernel's memory.",
        """
        with open("/proc/kcore", "rb") as file:
            check(file.read(4) == b"\\x7fELF", "another file")
        """,
        needs="CAP_SYS_RAWIO, and a /proc that hides nothing from root, as containers do",
    ),
    Attack(
        "change_kernel_setting",
        "Open a setting of the kernel that leads to root's rights or to a halt; nothing is written.",
        """
        paths = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger")
        first_that_works([lambda path=path: os.open(path, os.O_WRONLY) for path in paths])
        """,
        needs="settings that root may change, which containers mount read-only",
    ),
    Attack(
        "load_module",
        "Load a module into the kernel; it is empty, and the kernel comes to see that.",
        """
        try:
            syscall("init_module", None, 0, b"")
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
        """,
        needs="a kernel with modules, and CAP_SYS_MODULE, which root lacks in many containers",
    ),
]

KERNEL = [
    Attack(
        "reach_bpf",
        "Reach the part of the kernel that loads programs: an impossible request is answered as such.",
        """
        try:
            syscall("bpf", 0, bytes(8), 1 << 20)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
        """,
        needs="a kernel that looks at the request before it refuses it",
    ),
    Attack(
        "reach_perf_events",
        "Reach the part of the kernel that counts events: an impossible request is answered as such.",
        """
        try:
            syscall("perf_event_open", bytes(128), 0, -1, -1, 1 << 20)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        """,
        needs="a kernel with performance counters",
    ),
    Attack(
        "use_keyring",
        "Take a keyring of the kernel and put a key in it.",
        """
        KEYCTL_JOIN_SESSION_KEYRING, KEY_SPEC_SESSION_KEYRING = 1, -3
        syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None)
        syscall("add_key", b"user", b"attack", b"secret", 6, KEY_SPEC_SESSION_KEYRING)
        """,
        needs="a kernel with keyrings",
    ),
    Attack(
        "use_io_uring",
        "Set up a ring for system calls that no filter sees.",
        """
        os.close(syscall("io_uring_setup", 1, bytes(120)))
        """,
        needs="a kernel with io_uring switched on",
    ),
    Attack(
        "use_userfaultfd",
        "Hold up page faults at will, which exploits of races like to do.",
        """
        os.close(syscall("userfaultfd", 1))
        """,
        needs="a kernel with userfaultfd for page faults of user code",
    ),
    Attack(
        "call_as_32_bit",
        "Go around a filter of system calls by int 0x80, where the same numbers mean other calls.",
        """
        import mmap

        if os.uname().machine != "x86_64":
            not_here("only x86-64 has these calls")
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes.fromhex("b814000000" "cd80" "c3"))  # mov eax, getpid; int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        check(ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid(), "another answer")
        """,
        needs="a kernel that runs 32-bit programs",
    ),
    Attack(
        "call_as_x32",
        "Go around a filter of system calls by the numbers of x32.",
        """
        if os.uname().machine != "x86_64":
            not_here("only x86-64 has these calls")
        check(syscall(0x40000000 | 39) == os.getpid(), "another answer")
        """,
        needs="a kernel that runs x32 programs",
    ),
    Attack(
        "type_into_terminal",
        "Type into a terminal for whoever reads there next, the request hidden by bits that the kernel ignores.",
        """
        import fcntl, termios

        master, slave = os.openpty()
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for letter in b"x\\n":
            syscall("ioctl", slave, 1 << 32 | termios.TIOCSTI, bytes([letter]))
        check(select.select([slave], [], [], 2)[0], "nothing was typed")
        check(os.read(slave, 8) == b"x\\n", "something else was typed")
        """,
        needs="a kernel that lets ordinary users type into terminals, as those before 6.2 do",
    ),
]

ATTACKS = [*FILES, *SECRETS, *NETWORK, *PROCESSES, *RIGHTS, *KERNEL]
