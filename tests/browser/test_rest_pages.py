"""The pages of the REST interface work under the policy: the description with its own scripts, and the routes."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import Viewer


def test_the_description_of_the_api_opens_and_tries_a_route(viewer: Viewer) -> None:
    """Swagger UI shows the routes, opens one, sends a request with the session and shows the answer."""
    page = viewer.sign_in()
    page.goto("/api/v1/docs")
    row = page.locator(".opblock", has=page.locator('[data-path="/api/v1/stats"]'))
    row.locator(".opblock-summary-control").click()
    row.get_by_role("button", name="Try it out").click()
    row.get_by_role("button", name="Execute").click()
    expect(row.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")


def test_a_route_is_a_page_that_posts_and_signs_out(viewer: Viewer) -> None:
    """A task is submitted from the form of the browsable route; the button at the top signs out."""
    page = viewer.sign_in()
    page.goto("/api/v1/tasks")
    page.get_by_label("Content:").fill('{"command": "echo from the page"}')
    page.get_by_role("button", name="POST").click()
    expect(page.locator(".response-info")).to_contain_text("HTTP 201 Created")
    expect(page.locator(".response-info")).to_contain_text("No worker has joined yet")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(r"/login/"))
