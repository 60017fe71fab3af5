"""The scenarios in the order in which they are played."""

from __future__ import annotations

from tests.chaos.scenarios import DEFAULT_LEASES, Scenario
from tests.chaos.scenarios.kills import dispatcher_kills, rolling, worker_kills
from tests.chaos.scenarios.network import bad_cable, badly_cabled, cabled, leases, network, one_way_cable
from tests.chaos.scenarios.outage import outage
from tests.chaos.scenarios.pauses import pauses
from tests.chaos.scenarios.points import labelled_points
from tests.chaos.scenarios.restart_time import restart_time

SCENARIOS = (
    Scenario("labelled-points", labelled_points),
    # Its workers come back within their own pauses of up to five seconds, which fast leases do not wait for.
    Scenario("outage", outage, variables=lambda _: DEFAULT_LEASES),
    Scenario("network", network, variables=leases, around=cabled),
    Scenario("bad-cable", bad_cable, variables=lambda _: DEFAULT_LEASES, around=badly_cabled),
    Scenario("one-way-cable", one_way_cable, variables=lambda _: DEFAULT_LEASES, around=badly_cabled),
    Scenario("dispatcher-kills", dispatcher_kills),
    Scenario("worker-kills", worker_kills),
    Scenario("pauses", pauses),
    Scenario("rolling", rolling),
    Scenario("restart-time", restart_time, is_alone=True),
)
