"""What a worker offers its dispatcher: the proven levels from its floor upwards, its caps, and this machine."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence

from octaskly_wire.messages import UnprovenLevel
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.config import WorkerConfig
from worker_node.core.state import Offer
from worker_node.sandbox.probe import LevelReport
from worker_node.shell import machine

logger = logging.getLogger(__name__)


def offer_of(config: WorkerConfig, reports: Sequence[LevelReport]) -> Offer:
    """Return the offer, and warn when there is nothing in it."""
    offered = [report for report in reports if report.is_proven and report.level.rank >= config.min_sandbox.rank]
    if not offered:
        logger.warning(
            "This host proves no sandbox level from %s upwards, so this worker gets no tasks. --check shows what it "
            "proves and why no more; --min-sandbox lowers the floor (for the worker of a dispatcher's own machine: "
            "OCTASKLY_LOCAL_MIN_SANDBOX, with OCTASKLY_DEFAULT_SANDBOX for what tasks ask for)",
            config.min_sandbox,
        )
    return Offer(
        name=config.name,
        slots=config.slots,
        proofs=tuple(report.proof() for report in offered),
        allows_network=config.allows_network,
        platform=platform.platform(terse=True)[:255],
        cpu_count=os.cpu_count() or 1,
        memory_total_bytes=machine.memory_bytes()[0],
        max_limits=config.limits.caps,
        max_timeout_s=config.limits.max_timeout_s,
        unproven=tuple(_why_not(report, config.min_sandbox) for report in reports if report not in offered),
    )


def _why_not(report: LevelReport, floor: SandboxLevel) -> UnprovenLevel:
    if report.level.rank < floor.rank:
        return UnprovenLevel(report.level, f"below this worker's floor ({floor})", is_below_floor=True)
    return UnprovenLevel(report.level, report.why_not[:4096])
