"""What the probe found and what the owner wishes become the worker's offer."""

from __future__ import annotations

from pathlib import Path

from octaskly_wire.messages import Limits, UnprovenLevel
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.config import WorkerConfig
from worker_node.limit_flags import LimitSettings
from worker_node.sandbox.probe import LevelReport
from worker_node.shell.offering import offer_of

PROVEN = {"is_proven": True, "backend": "test"}
REPORTS = [
    LevelReport(SandboxLevel.NONE, **PROVEN),
    LevelReport(SandboxLevel.BASIC, **PROVEN),
    LevelReport(SandboxLevel.STRICT, is_proven=False, why_not="user namespaces are forbidden"),
    LevelReport(SandboxLevel.VERY_STRICT, is_proven=False, why_not="x" * 5000),
]


def offer_with(**wishes):
    """Return the offer of a worker with these reports."""
    return offer_of(WorkerConfig("w", 1, Path("/s"), **wishes), REPORTS)


def test_levels_below_the_floor_are_not_offered_and_it_says_so():
    """Proven or not: the owner's wish comes before what the host can do."""
    offer = offer_with(min_sandbox=SandboxLevel.BASIC)
    assert [proof.level for proof in offer.proofs] == [SandboxLevel.BASIC]
    below, strict, _ = offer.unproven
    assert below == UnprovenLevel(SandboxLevel.NONE, "below this worker's floor (basic)", is_below_floor=True)
    assert strict == UnprovenLevel(SandboxLevel.STRICT, "user namespaces are forbidden")


def test_a_floor_that_nothing_reaches_leaves_reasons_for_all():
    """Every level has a proof or a reason, and a reason has room in its message."""
    offer = offer_with(min_sandbox=SandboxLevel.STRICT)
    assert offer.proofs == ()
    assert [unproven.level for unproven in offer.unproven] == list(SandboxLevel)
    assert [unproven.is_below_floor for unproven in offer.unproven] == [True, True, False, False]
    assert len(offer.unproven[-1].reason) == 4096


def test_the_owners_caps_are_offered():
    """As they were set."""
    offer = offer_with(limits=LimitSettings(caps=Limits(memory_mb=512), max_timeout_s=600))
    assert (offer.max_limits, offer.max_timeout_s) == (Limits(memory_mb=512), 600)
