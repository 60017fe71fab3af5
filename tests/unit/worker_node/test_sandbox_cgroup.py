"""Control groups on trees of files that behave, as far as it matters here, as the kernel's do."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from worker_node.sandbox import cgroup, survey
from worker_node.sandbox.cgroup import OWN_USE_BYTES, Group, Place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")

PID = str(os.getpid())
MIB = 1 << 20
FILES_1 = {
    "cgroup.procs": "",
    "memory.limit_in_bytes": "9223372036854771712",
    "memory.memsw.limit_in_bytes": "9223372036854771712",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
}
FILES_2 = {
    "cgroup.procs": "",
    "cgroup.controllers": "cpu memory pids",
    "cgroup.subtree_control": "",
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
}


class Kernel:
    """Gives new groups their files, keeps each process in one group a tree, and removes only empty groups."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: list[tuple[str, str]] = []
        self.is_closed = False
        """Whether this user may make no groups."""
        self._folder = folder
        self._trees: dict[Path, dict[str, str]] = {}
        self._mkdir, self._rmdir = os.mkdir, os.rmdir
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "rmdir", self.rmdir)
        monkeypatch.setattr("worker_node.sandbox.kernel.write_setting", self.write)

    def mount(self, name: str, files: dict[str, str]) -> Path:
        """Return the top of a new tree."""
        self._trees[self._folder / name] = files
        self.mkdir(str(self._folder / name))
        return self._folder / name

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._check(path)
        self._mkdir(path, mode)
        for name, text in self._files_of(path).items():
            Path(path, name).write_text(text)

    def rmdir(self, path: str) -> None:
        self._check(path)
        if Path(path, "cgroup.procs").read_text() or any(child.is_dir() for child in Path(path).iterdir()):
            raise OSError(errno.EBUSY, "in use", path)
        shutil.rmtree(path) if not self._files_of(path) else self._remove(Path(path))

    def write(self, path: str, text: str) -> None:
        self._check(path)
        file = Path(path)
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, "no such control", path)
        self.writes.append((file.name, text))
        if file.name == "cgroup.procs":
            self._move(PID if text == "0" else text, file)
        elif file.name == "cgroup.subtree_control":
            if self._is_full(file) and file.parent not in self._trees:
                raise OSError(errno.EBUSY, "a group with processes passes nothing on", path)
            file.write_text(text)
        else:
            file.write_text(text)

    def enter(self, group: Path, pid: str = PID) -> None:
        """Put a process where it was before our code came."""
        self._move(pid, group / "cgroup.procs")

    def group_of(self, tree: Path, pid: str = PID) -> Path | None:
        """Return where a process is."""
        found = [file.parent for file in tree.rglob("cgroup.procs") if pid in file.read_text().split()]
        assert len(found) <= 1
        return found[0] if found else None

    def _move(self, pid: str, target: Path) -> None:
        control = target.with_name("cgroup.subtree_control")
        if control.exists() and control.read_text() and target.parent not in self._trees:
            raise OSError(errno.EBUSY, "a group that passes controllers on takes no processes", str(target))
        tree = next(top for top in self._trees if target.is_relative_to(top))
        for file in tree.rglob("cgroup.procs"):
            file.write_text("".join(f"{other}\n" for other in file.read_text().split() if other != pid))
        with target.open("a") as file:
            file.write(f"{pid}\n")

    def _files_of(self, path: str) -> dict[str, str]:
        return next((files for top, files in self._trees.items() if Path(path).is_relative_to(top)), {})

    def _remove(self, group: Path) -> None:
        for file in group.iterdir():
            file.unlink()
        self._rmdir(group)

    def _check(self, path: str) -> None:
        if self.is_closed and self._files_of(path):
            raise PermissionError(errno.EACCES, "not yours", path)

    @staticmethod
    def _is_full(control: Path) -> bool:
        return bool(control.with_name("cgroup.procs").read_text())


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel without control groups yet."""
    return Kernel(tmp_path, monkeypatch)


@pytest.fixture
def proc(tmp_path):
    """Return a function that writes what a process reads about itself, and returns the folder of that."""

    def write(mounts: str, own: str) -> str:
        folder = tmp_path / "proc"
        folder.mkdir()
        (folder / "mountinfo").write_text(f"22 1 0:20 / /proc rw shared:5 - proc proc rw\n{mounts}")
        (folder / "cgroup").write_text(own)
        return str(folder)

    return write


def mount_line(point: Path, kind: str, options: str = "rw", root: str = "/") -> str:
    """Return a line of mountinfo."""
    return f"30 24 0:26 {root} {point} rw,nosuid shared:9 - {kind} {kind} {options}\n"


# --- where groups can be made ------------------------------------------------------------------------


def test_without_control_groups_there_is_no_place(kernel, proc):
    """Memory is polled then."""
    assert cgroup.find(proc("", "0::/\n"), is_root=True) is None


def test_version_1_makes_groups_below_the_own_ones_of_each_hierarchy(kernel, proc):
    """Memory and processors are two trees, in each of which the worker may be somewhere else."""
    memory, cpu = kernel.mount("memory", FILES_1), kernel.mount("cpu,cpuacct", FILES_1)
    (memory / "service").mkdir()
    mounts = mount_line(memory, "cgroup", "rw,memory") + mount_line(cpu, "cgroup", "rw,cpu,cpuacct")
    place = cgroup.find(proc(mounts, "9:memory:/service\n4:cpu,cpuacct:/\n1:name=systemd:/\n"), is_root=True)
    assert place.as_arguments() == (1, f"{memory}/service", str(cpu))
    assert place.folders() == [f"{memory}/service", str(cpu)]


def test_version_1_in_a_container_sees_only_its_part(kernel, proc):
    """What the mount shows as its top is somewhere down the real tree, and the own path is told from there."""
    memory = kernel.mount("memory", FILES_1)
    (memory / "inner").mkdir()
    mounts = mount_line(memory, "cgroup", "rw,memory", root="/docker/1f2e")
    place = cgroup.find(proc(mounts, "9:memory:/docker/1f2e/inner\n"), is_root=True)
    assert place.as_arguments() == (1, f"{memory}/inner", "")


def test_version_1_without_memory_is_no_use(kernel, proc):
    """A fair share of the processors alone holds nothing."""
    cpu = kernel.mount("cpu", FILES_1)
    assert cgroup.find(proc(mount_line(cpu, "cgroup", "rw,cpu"), "4:cpu:/\n"), is_root=True) is None


def test_where_both_versions_are_mounted_the_one_with_the_memory_counts(kernel, proc):
    """Controllers are in one of the trees only: a new tree may lie there without any."""
    memory, unified = kernel.mount("memory", FILES_1), kernel.mount("unified", {**FILES_2, "cgroup.controllers": ""})
    mounts = mount_line(memory, "cgroup", "rw,memory") + mount_line(unified, "cgroup2")
    assert cgroup.find(proc(mounts, "9:memory:/\n0::/\n"), is_root=True).version == 1


def test_version_2_as_root_makes_groups_at_the_top(kernel, proc):
    """There processes and groups may lie side by side, whatever service the worker is part of."""
    top = kernel.mount("unified", FILES_2)
    (top / "service").mkdir()
    kernel.enter(top / "service")
    place = cgroup.find(proc(mount_line(top, "cgroup2"), "0::/service\n"), is_root=True)
    assert place.as_arguments() == (2, str(top), str(top))
    assert (top / "cgroup.subtree_control").read_text() == "+memory +cpu"
    assert kernel.group_of(top) == top / "service"


def test_version_2_as_an_ordinary_user_works_in_a_delegated_group(kernel, proc):
    """The worker's own processes make room: a group that passes controllers on has none of its own."""
    top = kernel.mount("unified", FILES_2)
    mine = top / "user.slice" / "worker.service"
    mine.mkdir(parents=True)
    kernel.enter(mine)
    kernel.enter(mine, "1234567")
    place = cgroup.find(proc(mount_line(top, "cgroup2"), "0::/user.slice/worker.service\n"), is_root=False)
    assert place.as_arguments() == (2, str(mine), str(mine))
    assert kernel.group_of(top) == kernel.group_of(top, "1234567") == mine / "octaskly-worker"


def test_version_2_without_delegation_gives_no_place(kernel, proc):
    """An ordinary user's session usually may not."""
    top = kernel.mount("unified", FILES_2)
    (top / "session").mkdir()
    kernel.enter(top / "session")
    folder = proc(mount_line(top, "cgroup2"), "0::/session\n")
    kernel.is_closed = True
    assert cgroup.find(folder, is_root=False) is None


def test_version_2_without_a_memory_controller_gives_no_place(kernel, proc):
    """It may be switched off when the machine boots."""
    top = kernel.mount("unified", {**FILES_2, "cgroup.controllers": "cpu pids"})
    assert cgroup.find(proc(mount_line(top, "cgroup2"), "0::/\n"), is_root=True) is None


def test_a_place_where_no_group_can_be_made_is_none(kernel, proc):
    """Containers often show the tree and let nobody write there: only a trial tells."""
    memory = kernel.mount("memory", FILES_1)
    folder = proc(mount_line(memory, "cgroup", "rw,memory"), "9:memory:/\n")
    kernel.is_closed = True
    assert cgroup.find(folder, is_root=True) is None


def test_a_hidden_tree_is_no_place(kernel, proc, tmp_path):
    """A mount over it leaves its line in the table, and nothing at its path."""
    line = mount_line(tmp_path / "gone", "cgroup", "rw,memory")
    assert cgroup.find(proc(line, "9:memory:/\n"), is_root=True) is None


def test_the_trial_leaves_nothing(kernel, proc):
    """What was made to find out is taken away."""
    memory = kernel.mount("memory", FILES_1)
    cgroup.find(proc(mount_line(memory, "cgroup", "rw,memory"), "9:memory:/\n"), is_root=True)
    assert [child for child in memory.iterdir() if child.is_dir()] == []


# --- a supervisor's group ----------------------------------------------------------------------------


@pytest.fixture
def place_1(kernel):
    """A place of version 1: two trees, in both of which this process is at the top."""
    memory, cpu = kernel.mount("memory", FILES_1), kernel.mount("cpu", FILES_1)
    kernel.enter(memory)
    kernel.enter(cpu)
    return Place(1, str(memory), str(cpu))


@pytest.fixture
def place_2(kernel):
    """A place of version 2, delegated to this user; this process is in its leaf."""
    kernel.mount("unified", FILES_2)
    top = Path(kernel._folder, "unified", "mine")
    (top / "octaskly-worker").mkdir(parents=True)
    kernel.enter(top / "octaskly-worker")
    kernel.write(str(top / "cgroup.subtree_control"), "+memory +cpu")
    return Place(2, str(top), str(top))


def limits_written(kernel: Kernel) -> list[tuple[str, str]]:
    """Return what was written to limits since the last look, in order."""
    written = [write for write in kernel.writes if write[0].startswith("memory.")]
    kernel.writes.clear()
    return written


@pytest.mark.parametrize("version", [1, 2])
def test_a_supervisor_lives_in_its_group_and_takes_it_away_at_the_end(version, kernel, request):
    """It enters once, in each tree, and leaves no group behind."""
    place = request.getfixturevalue(f"place_{version}")
    tops = [Path(folder) for folder in place.folders()]
    before = [kernel.group_of(top) for top in tops]
    group = Group(place)
    assert [kernel.group_of(top) for top in tops] == [top / f"octaskly-{PID}" for top in tops]
    group.end()
    assert [kernel.group_of(top) for top in tops] == before
    assert not [child for top in tops for child in top.glob("octaskly-[0-9]*")]


def test_version_1_limits_memory_with_swap_in_the_order_that_the_kernel_takes(place_1, kernel):
    """With swap it is never below without: down the one without goes first, up the other. No change, no write."""
    alone, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
    group = Group(place_1)
    low, high = (str(size * MIB + OWN_USE_BYTES) for size in (100, 200))
    steps = []
    for size in (100, 100, 200, 100):
        group.begin(size * MIB)
        steps.append(limits_written(kernel))
    assert steps == [[(alone, low), (both, low)], [], [(both, high), (alone, high)], [(alone, low), (both, low)]]


def test_version_1_without_an_account_of_swap_limits_what_it_can(place_1, kernel, tmp_path):
    """Many kernels keep none."""
    group = Group(place_1)
    (tmp_path / "memory" / f"octaskly-{PID}" / "memory.memsw.limit_in_bytes").unlink()
    group.begin(MIB)
    assert limits_written(kernel) == [("memory.limit_in_bytes", str(MIB + OWN_USE_BYTES))]


def test_version_2_limits_memory_and_allows_no_swap(place_2, kernel):
    """Swap would be memory beyond the limit."""
    group = Group(place_2)
    for size in (100, 100, 200):
        group.begin(size * MIB)
    low, high = (str(size * MIB + OWN_USE_BYTES) for size in (100, 200))
    swap = ("memory.swap.max", "0")
    assert limits_written(kernel) == [("memory.max", low), swap, ("memory.max", high), swap]


def test_whoever_clears_up_behind_a_dead_command_has_room(place_2, kernel):
    """The command may have left the group full; the next one has its own limit again, and no failure matters here."""
    group = Group(place_2)
    group.begin(100 * MIB)
    group.give_room()
    group.begin(100 * MIB)
    low, more = (str(100 * MIB + count * OWN_USE_BYTES) for count in (1, 2))
    assert [value for name, value in limits_written(kernel) if name == "memory.max"] == [low, more, low]
    kernel.is_closed = True
    group.give_room()


@pytest.mark.parametrize(("version", "events"), [(1, "memory.oom_control"), (2, "memory.events")])
def test_a_kill_counts_for_the_attempt_in_which_it_came(version, events, request):
    """The kernel only ever counts on: what is new since the attempt began is its own."""
    place = request.getfixturevalue(f"place_{version}")
    group = Group(place)
    group.begin(MIB)
    assert not group.has_killed()
    Path(place.memory, f"octaskly-{PID}", events).write_text("oom 5\noom_kill 2\n")
    assert group.has_killed()
    group.begin(MIB)
    assert not group.has_killed()


def test_a_limit_that_cannot_be_set_is_an_error(place_2, kernel):
    """The attempt must not run then."""
    group = Group(place_2)
    kernel.is_closed = True
    with pytest.raises(OSError, match="not yours"):
        group.begin(MIB)


def test_only_empty_groups_of_dead_supervisors_are_swept(place_2, kernel, monkeypatch):
    """A living one may not have entered its group yet; what is in use, or not ours, stays as well."""
    top = Path(place_2.memory)
    for name in ("octaskly-11", "octaskly-22", "octaskly-33", "somebody-elses"):
        (top / name).mkdir()
    kernel.enter(top / "octaskly-22", "2222")
    monkeypatch.setattr(cgroup.proc_tree, "is_alive", lambda pid: pid == 33)
    cgroup.sweep(place_2)
    left = {child.name for child in top.iterdir() if child.is_dir()}
    assert left == {"octaskly-22", "octaskly-33", "octaskly-worker", "somebody-elses"}


# --- users of slots ----------------------------------------------------------------------------------


WHOLE = "         0          0 4294967295\n"
SMALL = "         0     100000      65536\n"


def test_a_worker_of_root_finds_the_same_row_of_users_at_each_start(tmp_path):
    """By its folder, far from the users that people and services are; two folders hardly ever share a row."""
    first = survey._first_user(tmp_path / "a", WHOLE)
    assert first == survey._first_user(tmp_path / "a" / ".." / "a", WHOLE)
    assert first != survey._first_user(tmp_path / "b", WHOLE)
    assert first >= survey.FIRST_ROW
    assert (first - survey.FIRST_ROW) % survey.USERS == 0
    assert first + survey.USERS < 1 << 31


def test_a_container_that_maps_few_users_gets_a_row_within_them(tmp_path):
    """There is one such row: it is far below the end and above what distributions give out."""
    first = survey._first_user(tmp_path, SMALL)
    assert first == survey.LOW_ROW
    assert first + survey.USERS <= 65_536


def test_several_ranges_are_looked_at_one_by_one(tmp_path):
    """The row must lie within one of them."""
    first = survey._first_user(tmp_path, WHOLE)
    with_the_row = f"0 1000 1\n1 100000 65536\n{first} 500000 {survey.USERS}\n"
    one_short = f"0 1000 1\n1 100000 65536\n{first} 500000 {survey.USERS - 1}\n"
    assert survey._first_user(tmp_path, with_the_row) == first
    assert survey._first_user(tmp_path, one_short) == survey.LOW_ROW
