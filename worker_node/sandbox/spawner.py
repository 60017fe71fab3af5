"""The lean process that forks supervisors, started as `python -I -S spawner.py SOCKET_FD`.

A worker with threads, TLS and megabytes of heap forks slowly and unsafely; this process has none of them.
It reads its settings from a UNIX socket, and then one message a supervisor, with the descriptor of that one's
control socket. From then on worker and supervisor talk directly.

It is a subreaper too: when a supervisor is killed, its processes come here and are killed here.

As root it gives each supervisor a user of its own, under which that one's commands run. Such a user cannot
reach the state folder and has no name, so the spawner leaves the host's mount namespace, shows the folder of
the workspaces, and nothing else of the state, at a place where everybody may pass, and puts a list of users with
these names over the host's.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys

if __name__ == "__main__":
    # -I keeps the script's folder off the path. At the end of it, our package can hide nothing.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from worker_node.sandbox import cgroup, command, events, kernel, last_words, proc_tree
from worker_node.sandbox.places import SHOWN, SHOWN_WORKSPACES
from worker_node.sandbox.supervisor import Settings, Supervisor

MAX_SETTINGS_BYTES = 1 << 16

_USER_LISTS = {
    "passwd": "octaskly-{uid}:x:{uid}:{uid}:task:/nonexistent:/bin/sh\n",
    "group": "octaskly-{uid}:x:{uid}:\n",
}


class Spawner:
    """Forks one supervisor for each request and buries them."""

    def __init__(self, requests: socket.socket, settings: Settings, uid_base: int | None) -> None:
        """Take the worker's socket; with `uid_base` each supervisor gets a user from there upwards."""
        self.requests = requests
        self.settings = settings
        self.uid_base = uid_base
        self.obstacle = ""
        """Why no supervisor can be made here, empty when it can."""
        self.supervisors: dict[int, int] = {}
        """The place in the row of users of each, by process id."""
        self.fallen: set[int] = set()
        """Places whose supervisor was killed and whose processes may still live."""
        self.named_users = 0
        """How many of the users are in the list; places are taken from the lowest up."""
        self.has_orphans = False
        self.wake_read, self.wake_write = os.pipe()

    def serve(self) -> None:
        """Fork until the worker closes the socket."""
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        _reset_signals()
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake)
        poller = select.poll()
        poller.register(self.requests, select.POLLIN)
        poller.register(self.wake_read, select.POLLIN)
        while True:
            # With orphans in hand, look again soon: they may fork while they are being killed.
            for fd, _ in poller.poll(5 if self.has_orphans else None):
                if fd == self.wake_read:
                    os.read(self.wake_read, 4096)
                elif not self._take_request():
                    return
            self._bury()

    def _bury(self) -> None:
        """Reap the dead; kill what a supervisor that died before its time left behind."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.has_orphans = False
                self.fallen.clear()
                return
            if pid == 0:
                break
            # One that ended well left nobody.
            place = self.supervisors.pop(pid, None)
            if place is not None and status != 0:
                self.has_orphans = True
                self.fallen.add(place)
        if self.has_orphans:
            orphans = set(proc_tree.children(os.getpid())) - set(self.supervisors)
            for orphan in orphans:
                proc_tree.signal_all([orphan, *proc_tree.descendants(orphan)], signal.SIGKILL)
            self.has_orphans = bool(orphans)
            if not orphans:
                self.fallen.clear()
                if self.settings.place is not None:
                    cgroup.sweep(self.settings.place)

    def _take_request(self) -> bool:
        data, fds = last_words.receive_now(self.requests, 64, 1)
        if not data:
            return False
        for fd in fds:
            with socket.socket(fileno=fd) as control:
                self._fork(control)
        return True

    def _fork(self, control: socket.socket) -> None:
        if self.obstacle:
            _refuse(control, self.obstacle)
            return
        taken = {*self.supervisors.values(), *self.fallen}
        place = next(number for number in range(len(taken) + 1) if number not in taken)
        uid = None if self.uid_base is None else self.uid_base + place
        if uid is not None and place == self.named_users:
            _name_user(uid)
            self.named_users += 1
        spawner_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            _refuse(control, f"fork: {error}")
            return
        if pid:
            self.supervisors[pid] = place
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            os.setsid()
            for fd in (self.wake_read, self.wake_write):
                os.close(fd)
            self.requests.close()
            Supervisor(control, self.settings, spawner_pid, uid).run()
            code = 0
        except BaseException as error:  # noqa: BLE001 - a forked copy must never run on as a second spawner
            _refuse(control, f"supervisor: {error}")
        finally:
            os._exit(code)


def _refuse(control: socket.socket, detail: str) -> None:
    """Tell the worker that this supervisor cannot be. One whose attempt runs is gone for the worker all the same."""
    try:
        control.send(events.refused(detail, is_last=True), socket.MSG_NOSIGNAL)
    except OSError:
        return


def _show_workspaces(folder: str) -> None:
    """Bind the workspaces to a place that every user can reach, seen by this process and its children only."""
    os.makedirs(SHOWN, mode=0o755, exist_ok=True)
    kernel.unshare(kernel.CLONE_NEWNS)
    # What the host mounts later still comes through; nothing goes back.
    kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
    folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    kernel.mount("tmpfs", SHOWN, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=4m,mode=755")
    os.mkdir(SHOWN_WORKSPACES)
    kernel.mount(f"/proc/self/fd/{folder_fd}", SHOWN_WORKSPACES, "", kernel.MS_BIND)
    os.close(folder_fd)
    os.chmod(SHOWN_WORKSPACES, 0o711)  # noqa: S103 - to be passed through, not listed
    for name in _USER_LISTS:
        if os.path.isfile(f"/etc/{name}"):
            with open(f"/etc/{name}", "rb") as theirs, open(f"{SHOWN}/{name}", "wb") as ours:
                ours.write(theirs.read().rstrip(b"\n") + b"\n")
            os.chmod(f"{SHOWN}/{name}", 0o644)
            kernel.mount(f"{SHOWN}/{name}", f"/etc/{name}", "", kernel.MS_BIND)


def _name_user(uid: int) -> None:
    """Add a user of commands to the list that they see: ssh and others do not work for one who has no name."""
    for name, line in _USER_LISTS.items():
        if os.path.isfile(f"{SHOWN}/{name}"):
            with open(f"{SHOWN}/{name}", "a", encoding="ascii") as file:
                file.write(line.format(uid=uid))


def _reset_signals() -> None:
    """Undo what Python and the worker's parent set, once for all commands.

    An ignored signal stays ignored across exec: without this SIGPIPE and SIGXFSZ, which Python ignores, and
    SIGHUP under nohup would be ignored by every command. Handlers need nothing: exec removes them.
    """
    for number in signal.valid_signals():
        # libc keeps two numbers for itself, and two cannot be changed.
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _wake(_number: int, _frame: object) -> None:
    """Do nothing: the number is in the wake pipe, which a handler needs to exist for."""


def main(socket_fd: int) -> int:
    """Serve until the worker is gone. The supervisors see the end of it by themselves."""
    os.set_inheritable(socket_fd, False)
    requests = socket.socket(fileno=socket_fd)
    options = json.loads(requests.recv(MAX_SETTINGS_BYTES) or b"{}")
    if not options:
        return 1
    try:
        kernel.die_with_parent(signal.SIGKILL, options["worker_pid"])
    except ProcessLookupError:
        return 1
    kernel.adopt_orphans()
    place = cgroup.Place(*options["cgroup"]) if options["cgroup"] else None
    if place is not None:
        cgroup.sweep(place)
    command.prepare_filters()
    spawner = Spawner(requests, Settings(options["workspaces"], place), options["uid_base"])
    if options["uid_base"] is not None:
        try:
            _show_workspaces(options["workspaces"])
        except OSError as error:
            spawner.obstacle = f"as root, commands run as users of their own, which needs a mount namespace: {error}"
        spawner.settings.workspaces = SHOWN_WORKSPACES
    # What is here now stays: moved out of the collector's sight, forked copies share its pages.
    gc.disable()
    gc.freeze()
    spawner.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
