"""One Chromium a run, one context a viewer, real clusters; and what a failed test looked like, in build/browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.chromium import NoChromium, chromium
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.page_watch import PageWatch
from tests.support.started_cluster import started_cluster

PICTURES = Path(__file__).resolve().parents[2] / "build" / "browser"
PATIENCE_MS = 15_000

_failed: set[str] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Remember which tests failed, for the fixtures that end after them."""
    report = yield
    if report.failed:
        _failed.add(item.nodeid)
    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium of this run, or a skip that says why there is none."""
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(chromium())
        except NoChromium as error:
            pytest.skip(str(error))
        expect.set_options(timeout=PATIENCE_MS)
        PICTURES.mkdir(parents=True, exist_ok=True)
        yield browser


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A started dispatcher without workers, shared by the tests of a file."""
    with started_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class Viewer:
    """Somebody in front of a browser of its own: a page, and the watch over it."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", "timezone_id": "UTC", **options}
        self.context = browser.new_context(base_url=url, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.watch = PageWatch(self.context, url)
        self.page: Page = self.context.new_page()

    def sign_in(self, username: str = "admin", password: str = ADMIN_PASSWORD, *, path: str = "/") -> Page:
        """Open a page, sign in on the way, and return it."""
        self.page.goto(path)
        self.page.get_by_label("User name").or_(self.page.get_by_label("Username")).fill(username)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name=re.compile("^(sign|log) in$", re.IGNORECASE)).click()
        self.page.wait_for_url(lambda url: "/login/" not in url)
        return self.page

    def picture(self, name: str) -> None:
        """Keep what the page looks like as build/browser/NAME.png."""
        self.page.screenshot(path=PICTURES / f"{name}.png")


@pytest.fixture
def new_viewer(browser: Browser, cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Callable[..., Viewer]]:
    """Makes viewers of the cluster's pages; afterwards none of them may have seen a fault."""
    viewers: list[Viewer] = []

    def make(**options: Any) -> Viewer:
        viewers.append(Viewer(browser, cluster.url, **options))
        return viewers[-1]

    yield make
    faults = [fault for viewer in viewers for fault in viewer.watch.faults]
    if faults or request.node.nodeid in _failed:
        name = re.sub(r"[^\w-]+", "-", request.node.name)
        for number, viewer in enumerate(viewers):
            _keep(viewer, PICTURES / f"failed-{name}-{number}")
    for viewer in viewers:
        viewer.context.close()
    for viewer in viewers:
        viewer.watch.check()


@pytest.fixture
def viewer(new_viewer: Callable[..., Viewer]) -> Viewer:
    """One viewer, not signed in."""
    return new_viewer()


def _keep(viewer: Viewer, path: Path) -> None:
    viewer.page.screenshot(path=path.with_suffix(".png"), full_page=True)
    path.with_suffix(".html").write_text(viewer.page.content(), encoding="utf-8")
    path.with_suffix(".log").write_text("\n".join([viewer.page.url, *viewer.watch.log]), encoding="utf-8")
