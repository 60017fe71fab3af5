"""What holds on every page: phones, keyboards, dark rooms, assistive technology, and names that mean harm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Viewer
from tests.support.accessibility import faults_of, sideways_scroll_px
from tests.support.cluster import Cluster

HOSTILE = (
    '<script>document.title="owned"</script>',
    "</script><img src=x onerror=document.title='owned'>",
    '"onmouseover="document.title=`owned`',
    "{{ 7 * 7 }}{% now 'Y' %}",
)
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def addresses(cluster: Cluster) -> dict[str, str]:
    """All kinds of pages, over a cluster in which everything is named to do harm."""
    machines = HOSTILE[0], HOSTILE[2]
    for place, name in enumerate(machines):
        cluster.start_worker(f"hostile-{place}", "--name", name)
    cluster.wait_connected(*machines)
    writes = "\n".join([f"echo {'x' * 2000}; cat <<'END'", *HOSTILE, "END", "exit 1"])
    ids = [cluster.api.submit(f"{writes} # \N{RIGHT-TO-LEFT OVERRIDE}{name}", name=name) for name in HOSTILE]
    cluster.wait_ended(*ids)
    never = cluster.api.submit("true", name=HOSTILE[0], limits={"memory_mb": 10_000_000})
    worker = cluster.api.worker_named(HOSTILE[0])["id"]
    return {
        "dashboard": "/",
        "tasks": "/tasks/",
        "task": f"/tasks/{ids[0]}/",
        "waiting": f"/tasks/{never}/",
        "workers": "/workers/",
        "worker": f"/workers/{worker}/",
        "audit": "/audit/",
        "story": f"/audit/?task_id={ids[0]}",
        "admin": "/admin/",
        "admin-tasks": "/admin/tasks_app/task/",
        "admin-task": f"/admin/tasks_app/task/{ids[0]}/change/",
        "admin-results": "/admin/tasks_app/result/",
        "admin-workers": "/admin/workers_app/worker/",
        "admin-worker": f"/admin/workers_app/worker/{worker}/change/",
        "admin-tokens": "/admin/workers_app/jointoken/",
        "admin-files": "/admin/tasks_app/file/",
        "admin-audit": "/admin/audit_app/auditentry/",
        "admin-users": "/admin/auth/user/",
    }


def opened(viewer: Viewer, address: str) -> Page:
    """Open a page and wait until it is at rest."""
    viewer.page.goto(address)
    sign = viewer.page.locator("#live-state")
    if address.startswith(("/tasks", "/workers")) or address in {"/", "/admin/"}:
        expect(sign).to_have_text("Live")
    viewer.page.wait_for_load_state("load")
    return viewer.page


def test_harmful_names_are_shown_as_they_are(viewer: Viewer, addresses: dict[str, str]) -> None:
    """Names and commands with HTML, attributes or template code in them are text on every page, and do nothing."""
    viewer.sign_in()
    for name, address in addresses.items():
        page = opened(viewer, address)
        if name in {"dashboard", "tasks", "task", "workers", "worker", "admin-tasks", "admin-workers"}:
            expect(page.get_by_text("<script>document.title").first).to_be_attached()
        assert page.locator("img[src=x]").count() == 0, name
        assert page.locator("[onmouseover]").count() == 0, name
        assert page.title() != "owned", name
        assert "49" not in page.title(), name


def test_every_page_fits_a_phone(new_viewer: Callable[..., Viewer], addresses: dict[str, str]) -> None:
    """At 390 pixels nothing is wider than the window; what is wide scrolls within itself."""
    viewer = new_viewer(viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True)
    viewer.sign_in()
    too_wide = {}
    for name, address in addresses.items():
        page = opened(viewer, address)
        viewer.picture(f"phone-{name}")
        if (by := sideways_scroll_px(page)) > 0:
            too_wide[name] = by
    assert too_wide == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_for_everybody(new_viewer: Callable[..., Viewer], addresses: dict[str, str], scheme: str) -> None:
    """Names, labels, headings, tables and contrast are right in both themes, also on the sign-in page."""
    viewer = new_viewer(color_scheme=scheme)
    viewer.page.goto("/login/")
    faults = {"login": faults_of(viewer.page)}
    viewer.picture(f"{scheme}-login")
    viewer.sign_in()
    for name, address in addresses.items():
        page = opened(viewer, address)
        faults[name] = faults_of(page)
        viewer.picture(f"{scheme}-{name}")
    lines = [f"{name}: {fault}" for name, found in faults.items() for fault in found]
    assert not lines, "\n".join(lines)


def test_the_theme_is_chosen_and_kept(viewer: Viewer, cluster: Cluster) -> None:
    """The button goes from the system's theme to light and dark; the choice holds on the next page and in the admin."""
    page = viewer.sign_in()
    button = page.get_by_role("button", name="Theme")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    while page.locator("html").get_attribute("data-theme") != "dark":
        button.click()
    dark = page.evaluate(ground)
    assert dark != light
    for path in ("/tasks/", "/admin/auth/user/"):
        page.goto(path)
        assert page.evaluate(ground) == dark, path


def test_the_keyboard_is_enough(viewer: Viewer, cluster: Cluster) -> None:
    """Tab leads past the bar by the skip link to the form; a command is typed and run without the mouse."""
    cluster.start_worker("typist")
    cluster.wait_connected("typist")
    page = viewer.sign_in()
    page.reload()
    expect(page.locator("#live-state")).to_have_text("Live")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    command = page.get_by_role("textbox", name="Command", exact=True)
    for _ in range(20):
        page.keyboard.press("Tab")
        if command.evaluate("(element) => element === document.activeElement"):
            break
    expect(command).to_be_focused()
    page.keyboard.type("echo typed")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("region", name="Ended last").or_(page.locator("#task-head"))).to_contain_text("echo typed")
