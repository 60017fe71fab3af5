"""From a seed to a whole story: cluster, load and faults, then calm, then the final check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from dispatcher.core.config import EngineConfig
from octaskly_wire.messages import NO_LIMITS, Limits
from octaskly_wire.vocabulary import Admission
from tests.simulation.cluster import CLASSES, Counts, SimCluster
from tests.simulation.dispatcher import SimDispatcher
from tests.simulation.store import TaskRow
from tests.simulation.worker import Behaviour, SimWorker
from tests.simulation.world import World

FAULTS_UNTIL_S = 240.0
CALM_WITHIN_S = 4000.0
"""Five losses with backoff, leases and graces all in a row end well within this."""
ASKED = (NO_LIMITS, NO_LIMITS, Limits(memory_mb=1000), Limits(memory_mb=8000), Limits(processes=100, open_files=64))


@dataclass(frozen=True, slots=True)
class Flavour:
    """A family of stories; the promise of few re-executions depends on what may happen in it."""

    name: str
    faults: tuple[str, ...]
    has_poison: bool = False
    runs_again: bool = True
    """Whether a command may run more than once for causes other than its own failure."""
    charges_losses: bool = True


FLAVOURS = (
    Flavour("anything", ("dispatcher", "workers", "links", "partitions", "freezes", "disk", "whitelist", "drain",
                         "store", "starts"), has_poison=True),
    Flavour("anything-else", ("dispatcher", "workers", "links", "partitions", "freezes", "disk", "whitelist"),
            has_poison=True),
    Flavour("dispatcher-only", ("dispatcher", "store", "frozen-dispatcher"), runs_again=False, charges_losses=False),
    Flavour("short-cuts", ("links", "dispatcher", "short-partitions", "frozen-dispatcher", "store"), runs_again=False,
            charges_losses=False),
    Flavour("rolling", ("drain",), charges_losses=False),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Story:
    """How a seed ended."""

    seed: int
    flavour: str
    tasks: int
    counts: Counts
    re_executions: int
    superseded: int
    suspensions: int
    searches: int
    handed_back: int
    """Attempts that were given ahead and waited too long."""
    steps: int
    virtual_s: float


def tell(seed: int, trace_lines: int = 4000) -> tuple[SimCluster, Callable[[], Story]]:
    """Prepare the story of a seed; the returned function lets it happen and raises InvariantBroken."""
    world = World(seed, trace_lines)
    random = world.random
    flavour = FLAVOURS[seed % len(FLAVOURS)]
    # A small window, so that what one worker cannot run fills the head that another must look behind.
    cluster = SimCluster(world, EngineConfig(window_tasks=random.choice((1, 4, 256))))
    for number in range(random.randint(2, 6)):
        caps: dict[str, Any] = {}
        if number:  # The first takes whatever there is.
            caps["max_limits"] = random.choice((NO_LIMITS, Limits(memory_mb=2000), Limits(processes=10, disk_mb=500)))
            caps["max_timeout_s"] = random.choice((None, None, 600))
        memory_mb = 4096 if number % 2 else 16384
        cluster.add_worker(f"w{number}", random.randint(1, 4), is_strict=number < 2, memory_mb=memory_mb, **caps)
    cluster.dispatcher.start()
    for worker in cluster.workers.values():
        world.after(random.uniform(0.0, 5.0), worker.start)
    _load(cluster, flavour)
    _Faults(cluster, flavour).plan()

    def happen() -> Story:
        world.run(FAULTS_UNTIL_S)
        _calm(cluster)
        world.run(FAULTS_UNTIL_S + CALM_WITHIN_S, is_over=cluster.is_quiet)
        world.run(world.now + 10.0)  # what is still on its way arrives
        cluster.check_end()
        again, losses = cluster.re_executions(), sum(row.losses for row in cluster.store.tasks.values())
        if again and not flavour.runs_again:
            raise AssertionError(f"{again} commands ran again, though no worker died and no lease ran out")
        if losses and not flavour.charges_losses:
            raise AssertionError(f"{losses} losses charged, though no worker crashed")
        return Story(
            seed, flavour.name, len(cluster.store.tasks), cluster.counts, again, cluster.store.superseded,
            cluster.store.suspensions, cluster.dispatcher.searches, cluster.store.handed_back, world.steps, world.now,
        )  # fmt: skip

    return cluster, happen


def _load(cluster: SimCluster, flavour: Flavour) -> None:
    random = cluster.world.random
    number = 0
    for _ in range(random.randint(3, 10)):
        rows, behaviours = [], {}
        for _ in range(random.choice((1, 1, 2, 5, 12))):
            task_id = f"t{number:04}"
            number += 1
            behaviours[task_id], max_retries = _behaviours(random, flavour)
            rows.append(
                TaskRow(
                    task_id, random.choice(CLASSES), random.choice((0, 0, 0, 5, -5)), max_retries,
                    random.choice(ASKED), random.choice((60, 3600)),
                )
            )  # fmt: skip
            if random.random() < 0.05:
                cluster.world.after(random.uniform(0.0, FAULTS_UNTIL_S), cluster.cancel, task_id)
        cluster.world.after(random.uniform(0.0, FAULTS_UNTIL_S * 0.8), cluster.submit, rows, behaviours)
    if random.random() < 0.3:
        _load_burst(cluster)


def _load_burst(cluster: SimCluster) -> None:
    """Submit many short tasks, which make workers quick, and among them some that last and hold up what waits."""
    random = cluster.world.random
    rows, behaviours = [], {}
    for number in range(random.choice((100, 200))):
        task_id = f"u{number:04}"
        behaviours[task_id] = [Behaviour(random.choice((1.0, 10.0)) if random.random() < 0.06 else 0.005)]
        rows.append(TaskRow(task_id, random.choice(CLASSES[:2]), limits=random.choice(ASKED[:3])))
        if random.random() < 0.05:
            cluster.world.after(random.uniform(0.0, FAULTS_UNTIL_S), cluster.cancel, task_id)
    cluster.world.after(random.uniform(10.0, FAULTS_UNTIL_S * 0.8), cluster.submit, rows, behaviours)


def _behaviours(random: Random, flavour: Flavour) -> tuple[list[Behaviour], int]:
    dice = random.random()
    duration_s = random.choice((0.0, 0.05, 1.0, 5.0, 40.0, 120.0))
    if flavour.has_poison and dice < 0.03:
        return [Behaviour(is_poison=True)], 0
    if dice < 0.1:
        return [Behaviour(duration_s, exit_code=3)], random.randint(0, 2)
    if dice < 0.2:
        return [Behaviour(0.1, exit_code=1), Behaviour(duration_s)], random.randint(1, 3)
    return [Behaviour(duration_s)], 0


class _Faults:
    """Schedules what goes wrong."""

    def __init__(self, cluster: SimCluster, flavour: Flavour) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.random = cluster.world.random
        self.kinds: dict[str, Callable[[], None]] = {
            "dispatcher": self._restart_dispatcher,
            "workers": self._kill_worker,
            "links": self._cut_link,
            "partitions": lambda: self._partition(self.random.choice((3.0, 20.0, 60.0, 150.0))),
            "short-partitions": lambda: self._partition(self.random.uniform(0.5, 12.0)),
            "freezes": self._freeze,
            "frozen-dispatcher": lambda: self._freeze_dispatcher(self.random.choice((5.0, 60.0, 200.0))),
            "disk": self._fill_disk,
            "whitelist": self._step_on_whitelist,
            "drain": self._rolling_restart,
            "store": self._fill_database,
            "starts": self._break_starts,
        }
        self.faults = [self.kinds[name] for name in flavour.faults]

    def plan(self) -> None:
        """Schedule between a few and many faults."""
        for _ in range(self.random.choice((1, 3, 8, 20))):
            self.world.after(self.random.uniform(1.0, FAULTS_UNTIL_S), self.random.choice(self.faults))

    def _worker(self) -> str:
        return self.random.choice(sorted(self.cluster.workers))

    def _restart_dispatcher(self) -> None:
        dispatcher = self.cluster.dispatcher
        if dispatcher.is_alive:
            self.cluster.counts.kills += 1
            dispatcher.kill()
            self.world.after(self.random.choice((0.1, 3.0, 30.0, 100.0)), _start_if_dead, dispatcher)

    def _kill_worker(self) -> None:
        worker = self.cluster.workers[self._worker()]
        if worker.is_alive:
            self.cluster.counts.kills += 1
            worker.kill()
        self.world.after(self.random.choice((0.5, 10.0, 120.0)), _start_if_dead, worker)

    def _cut_link(self) -> None:
        connection = self.cluster.workers[self._worker()].connection
        if connection:
            self.world.note(f"the link of {connection.worker_id} is cut")
            connection.cut("cut")

    def _partition(self, seconds: float) -> None:
        worker_id = self._worker()
        self.world.note(f"{worker_id} is cut off for {seconds:.1f} s")
        self.cluster.network.partition(worker_id, seconds)

    def _freeze(self) -> None:
        worker = self.cluster.workers[self._worker()]
        seconds = self.random.choice((3.0, 40.0, 130.0))
        self.world.note(f"{worker.name} freezes for {seconds:.0f} s")
        worker.freeze(seconds)

    def _freeze_dispatcher(self, seconds: float) -> None:
        self.world.note(f"the dispatcher freezes for {seconds:.0f} s")
        self.cluster.dispatcher.freeze(seconds)

    def _fill_disk(self) -> None:
        worker = self.cluster.workers[self._worker()]
        worker.is_disk_full = True
        self.world.note(f"the disk of {worker.name} is full")
        self.world.after(self.random.choice((2.0, 60.0)), lambda: setattr(worker, "is_disk_full", False))

    def _fill_database(self) -> None:
        dispatcher = self.cluster.dispatcher
        dispatcher.is_store_available = False
        self.world.note("the database cannot be written")
        seconds = self.random.choice((1.0, 20.0, 150.0))
        self.world.after(seconds, lambda: setattr(dispatcher, "is_store_available", True))
        # What waits for its commit must not go out over the links that come after these.
        for worker in self.cluster.workers.values():
            if worker.connection and self.random.random() < 0.5:
                self.world.after(self.random.uniform(0.0, seconds), worker.connection.cut, "cut while nothing commits")

    def _step_on_whitelist(self) -> None:
        row = self.cluster.store.workers[self._worker()]
        row.admission = self.random.choice((Admission.APPROVED, Admission.SUSPENDED))
        row.is_draining = self.random.random() < 0.3

    def _rolling_restart(self) -> None:
        worker = self.cluster.workers[self._worker()]
        if worker.is_alive and not worker.state.is_stopping:
            worker.stop(self.random.choice((5.0, 300.0)))

        def again() -> None:
            if worker.is_alive:
                self.world.after(5.0, again)
            else:
                worker.start()

        self.world.after(5.0, again)

    def _break_starts(self) -> None:
        worker = self.cluster.workers[self._worker()]
        worker.fails_to_start = 0.5
        self.world.after(30.0, lambda: setattr(worker, "fails_to_start", 0.0))


def _calm(cluster: SimCluster) -> None:
    """End all faults, now and for good; operators bring back what was suspended, whenever it is."""
    cluster.world.note("all faults end")
    cluster.network.heal_all()
    cluster.dispatcher.is_store_available = True

    def look_after() -> None:
        for row in cluster.store.workers.values():
            row.admission, row.is_draining = Admission.APPROVED, False
        for worker in cluster.workers.values():
            worker.is_disk_full, worker.fails_to_start = False, 0.0
            _start_if_dead(worker)
        _start_if_dead(cluster.dispatcher)
        cluster.world.after(30.0, look_after)

    look_after()


def _start_if_dead(process: SimDispatcher | SimWorker) -> None:
    if not process.is_alive:
        process.start()
