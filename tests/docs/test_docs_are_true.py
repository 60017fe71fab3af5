"""What the pages say exists, and what exists is on the pages."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

import pytest
from django.conf import settings

import octaskly_wire
from octaskly_site import options
from octaskly_wire import messages
from worker_node import config as worker_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PACKAGES = (
    "accounts_app",
    "audit_app",
    "dashboard_app",
    "dispatcher",
    "metrics_app",
    "octaskly",
    "octaskly_site",
    "octaskly_wire",
    "tasks_app",
    "worker_node",
    "workers_app",
)


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return the long flags of a parser, without those every program has."""
    flags = {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    return flags - {"--help", "--version"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link on a page names a file that is there."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_dispatcher_flag_is_documented() -> None:
    """docs/configuration.md names each flag of rundispatcher."""
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    page = (ROOT / "docs/configuration.md").read_text()
    assert {flag for flag in flags_of(parser) if f"`{flag}" not in page} == set()


def test_every_worker_flag_is_documented() -> None:
    """docs/configuration.md names each flag of the worker."""
    page = (ROOT / "docs/configuration.md").read_text()
    assert {flag for flag in flags_of(worker_config._parser({})) if f"`{flag}" not in page} == set()


def test_every_variable_is_documented() -> None:
    """docs/configuration.md names each OCTASKLY_* variable that the code reads."""
    read = re.compile(r'"(OCTASKLY_[A-Z_]+)"')
    found = {
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in read.findall(path.read_text())
    }
    for_commands = {"OCTASKLY_TASK_ID", "OCTASKLY_ATTEMPT"}
    django_settings = {
        "OCTASKLY_AUDIT_KEY",
        "OCTASKLY_AUDIT_SEALING_KEY",
        "OCTASKLY_CA_WRAPPING_KEY",
        "OCTASKLY_VERSION",
    }
    pages = (ROOT / "docs/configuration.md").read_text() + (ROOT / "docs/sandbox.md").read_text()
    assert {name for name in found - django_settings if f"`{name}" not in pages} <= {"OCTASKLY_TOKEN"}
    assert all(f"`{name}`" in pages for name in for_commands)


def test_every_message_is_in_the_protocol_page() -> None:
    """docs/protocol.md tells the part of each message."""
    page = (ROOT / "docs/protocol.md").read_text()
    names = {kind.__name__ for family in (messages.FromWorker, messages.ToWorker) for kind in family.__args__}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_a_worker_asks_for_nothing_that_the_dispatcher_does_not_pin() -> None:
    """A local worker, started from the dispatcher's environment, has all that it needs, in the same ranges."""

    def asked(name: str) -> set[str]:
        lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
        return {line for line in lines if line and not line.startswith("-")}

    assert asked("requirements-worker.txt") <= asked("requirements.in")


def test_one_version_everywhere() -> None:
    """Packaging, web server and changelog name the version that the protocol's package holds."""
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in packaging["project"]["dynamic"]
    assert ROOT / packaging["tool"]["hatch"]["version"]["path"] == Path(octaskly_wire.__file__)
    assert octaskly_wire.__version__ == settings.OCTASKLY_VERSION
    assert f"## [{octaskly_wire.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_make_help_tells_of_every_target() -> None:
    """And each is phony: a folder of its name, such as `build`, must not hide it."""
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY:((?:.*\\\n)*.*)", text, re.MULTILINE)[1].replace("\\", "").split())
    made = {name for names in re.findall(r"^([a-z][a-z -]*):(?!=)", text, re.MULTILINE) for name in names.split()}
    told = set(re.findall(r'@echo "make ([a-z-]+) ', text))
    assert made == phony
    assert told == made - {"help"}
