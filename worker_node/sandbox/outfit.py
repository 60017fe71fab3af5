"""Start commands without forking Python: what a command inherits is all that it may have.

A fork of the supervisor copies its page tables and then faults its pages in again, only to throw everything away in
exec: two milliseconds, twice what a short command takes itself. posix_spawn copies nothing, but between its birth and
exec the child can do nothing either. So the supervisor restricts itself as the command shall be restricted. Limits,
groups and the lack of new privileges it puts on once and for ever, and from then on serves only attempts with the
same; folder and rank among what the kernel kills first it takes on for the moment of the spawn.

So too the user, but as its real one only: who it acts as stays root, so that nobody else gets a hold on its memory and
its death signal is kept. The child acts as its real user from its birth, and exec makes that final: it puts that user
in the place of the saved one, and drops the capabilities.

What a supervisor cannot put on itself goes by `command.launch`: a sandbox of namespaces, and limits so low that it
would meet them itself. Standard library only.
"""

from __future__ import annotations

import os
import signal

from worker_node.sandbox import command, kernel
from worker_node.sandbox.command import CannotLaunch

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Any


class Outfit:
    """What a supervisor has put on for the commands that it starts from now on."""

    def __init__(self, plan: dict[str, Any], uid: int | None, spawner_pid: int) -> None:
        """Put on, for ever, what all attempts of this outfit share; raise CannotLaunch.

        `uid` is the commands' user, None for who this process is. `spawner_pid` is the parent of this process.
        """
        self._uid = uid
        self._rlimits = plan["rlimits"]
        self._no_new_privileges = plan["no_new_privileges"]
        self._score = 0
        step = "descriptors"
        try:
            self._null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            step = "oom score"
            # Opened while this process may still be looked at: hidden, its files in /proc belong to root.
            kernel.show_memory()
            self._oom_score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._own_score = int(os.read(self._oom_score, 16))
            step = "working folder"
            os.umask(0o077)
            if uid is not None:
                step = "user"
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                # The change of user drops them only where nothing of root is left.
                kernel.drop_ambient_capabilities()
            # A change of group shows memory and clears the death signal.
            kernel.hide_memory()
            kernel.die_with_parent(signal.SIGTERM, spawner_pid)
            for name, value in self._rlimits.items():
                step = f"limit {name}"
                command.limit(name, value)
            if self._no_new_privileges:
                step = "no new privileges"
                kernel.forbid_new_privileges()
        except (OSError, ValueError, KeyError) as error:
            raise CannotLaunch(f"{step}: {error}") from error

    def fits(self, plan: dict[str, Any]) -> bool:
        """Return whether an attempt may be started in this outfit."""
        return bool(
            plan["inherits"]
            and plan["rlimits"] == self._rlimits
            and plan["no_new_privileges"] == self._no_new_privileges
        )

    def launch(self, plan: dict[str, Any], stdout: int, stderr: int) -> int:
        """Start the command in a session of its own; return its process id or raise CannotLaunch."""
        step = "working folder"
        try:
            os.chdir(plan["workspace"])
            step = "oom score"
            self._score = plan["oom_score_adj"]
            if self._own_score < self._score:
                os.pwrite(self._oom_score, b"%d" % self._score, 0)
            if self._uid is not None:
                step = "user"
                os.setresuid(self._uid, -1, -1)
            step = "execute"
            return command.spawn(plan, (self._null, stdout, stderr), is_of_real_user=True)
        except (OSError, ValueError) as error:
            raise CannotLaunch(f"{step}: {error}") from error
        finally:
            self._return()

    def _return(self) -> None:
        """Be who the supervisor is again."""
        try:
            if self._uid is not None:
                os.setresuid(0, -1, -1)
            if self._own_score < self._score:
                os.pwrite(self._oom_score, b"%d" % self._own_score, 0)
        except OSError:
            os._exit(1)  # the command may run: the spawner kills it, and the worker hears of a loss
