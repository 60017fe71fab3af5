"""The page and the dashboard about metrics name what is exported, and all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from metrics_app.gauges import Gauges
from metrics_app.instruments import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
NAME = re.compile(r"\boctaskly_[a-z0-9_]+\b")
SUPERVISORS_WORDS = {"started", "refused", "ended", "gone", "main"}
"""What a sandbox, its supervisor and the worker tell each other: no log."""
PROGRAMS = ("audit_app", "dispatcher", "metrics_app", "octaskly_site", "tasks_app", "worker_node")


@pytest.fixture
def exported(db) -> set[str]:
    """Return the names of all families of ours, as a sample of a counter has it."""
    families = [*REGISTRY.collect(), *Gauges().collect()]
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    return {name for name in names if name.startswith("octaskly_")}


def test_the_dashboard_asks_only_for_what_is_exported(exported) -> None:
    """Every panel has a question, every question names a metric that there is."""
    dashboard = json.loads((ROOT / "docs/grafana/octaskly.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) >= len(dashboard["panels"]) > 20
    series = exported | {f"{name}_{part}" for name in exported for part in ("bucket", "sum", "count")}
    asked = {name for expression in expressions for name in NAME.findall(expression)}
    assert asked <= series
    assert {name for name in exported if not any(found.startswith(name) for found in asked)} == set()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_page_tells_of_every_metric(exported) -> None:
    """And of none that there is not."""
    told = set(NAME.findall(PAGE))
    assert told == exported


def test_the_page_tells_of_every_event() -> None:
    """The names of events are a promise: what the code says is on the page, and the other way round."""
    said = re.compile(r'(?:"event": |of_attempt\(\s*)"([a-z_]+)"')
    events = {
        name
        for program in PROGRAMS
        for path in (ROOT / program).rglob("*.py")
        for name in said.findall(path.read_text())
    } | {"work_paused", "work_resumed"}
    events -= SUPERVISORS_WORDS
    logs = PAGE.partition("## Logs")[2].partition("| of the dispatcher")[2]
    first_cells = [line.split("|")[1] for line in logs.splitlines() if line.startswith("| `")]
    assert {name for cell in first_cells for name in re.findall(r"`([a-z_]+)`", cell)} == events
