"""The histograms and counters of this process, in a registry of our own. Each help text says what is measured."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

LONG_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
"""From a command that does nothing to the longest time-out."""
SHORT_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""From a disk that does not wait to one that everybody waits for."""

QUEUE_WAIT: Final = Histogram(
    "octaskly_queue_wait_seconds",
    "From the moment a task might run (submitted, or its pause before a retry over) to the commit of its attempt's"
    " start, by the dispatcher's clock. Once an attempt whose start was recorded.",
    buckets=LONG_BUCKETS_S,
    registry=REGISTRY,
)
RUN: Final = Histogram(
    "octaskly_run_seconds",
    "How long commands ran by their workers' clocks, as in results.duration_ms: once an accepted outcome, 0 for a"
    " command that never began. Attempts that were lost, handed back or told too late are not in it.",
    ["outcome"],
    buckets=LONG_BUCKETS_S,
    registry=REGISTRY,
)
SPAWN: Final = Histogram(
    "octaskly_spawn_seconds",
    "From asking a worker's sandbox for a command to the existence of its process, by the worker's clock, as in"
    " results.spawn_seconds. Once an accepted outcome of a command that began.",
    ["sandbox"],
    buckets=SHORT_BUCKETS_S,
    registry=REGISTRY,
)
COMMIT: Final = Histogram(
    "octaskly_commit_seconds",
    "Each commit of a group of the engine's records, from wanting the database's lock to the data being on disk."
    " Tries that failed are not in it.",
    buckets=SHORT_BUCKETS_S,
    registry=REGISTRY,
)
COMMIT_RECORDS: Final = Histogram(
    "octaskly_commit_records",
    "How many of the engine's records each commit held.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000),
    registry=REGISTRY,
)
ROUND_TRIP: Final = Histogram(
    "octaskly_link_round_trip_seconds",
    "From a worker's heartbeat to the dispatcher's answer, by the worker's clock, which tells it with its next"
    " heartbeat. Once each time that a worker's vitals are written down.",
    buckets=SHORT_BUCKETS_S,
    registry=REGISTRY,
)
ATTEMPTS: Final = Counter(
    "octaskly_attempts",
    "Attempts that ended, by outcome (completed, failed, cancelled; lost with their worker; rejected by it) and by"
    " failure reason, empty where there is none.",
    ["outcome", "failure_reason"],
    registry=REGISTRY,
)
