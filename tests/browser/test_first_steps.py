"""The first minutes with the pages: from an empty cluster to a command whose output is watched."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.conftest import Viewer
from tests.support.cluster import Cluster
from tests.support.programs import new_mark, wake

RED = "rgb(255, 123, 114)"
"""Of the terminal's palette, in css/ansi.css."""


def test_from_an_empty_cluster_to_live_output(new_viewer: Callable[..., Viewer], cluster: Cluster) -> None:
    """Each step is on the page: the join line, the approval, the first command, its coloured output while it runs."""
    viewer = new_viewer(permissions=["clipboard-read", "clipboard-write"])
    page = viewer.sign_in()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cluster")
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    expect(page.get_by_text("No machine has joined yet")).to_be_visible()
    expect(page.get_by_text("No task has run yet")).to_be_visible()
    viewer.picture("1-empty")

    page.get_by_role("button", name="Make a join line").click()
    dialog = page.get_by_role("dialog", name="Add a machine")
    dialog.get_by_label("Approve automatically").uncheck()
    dialog.get_by_role("button", name="Make the join line").click()
    line = dialog.get_by_text("curl -fsSk --pinnedpubkey")
    dialog.get_by_role("button", name="Copy").first.click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied == line.text_content()
    token = re.search(r"sh -s -- (\S+)$", copied)
    assert token is not None, copied
    viewer.picture("2-join-line")

    cluster.remember_token(token[1])
    cluster.start_worker("alpha", token=token[1])
    expect(dialog.get_by_text("alpha has come and waits for approval")).to_be_visible()
    dialog.get_by_role("button", name="Close").last.click()
    card = page.get_by_role("list", name="Workers").get_by_role("listitem").filter(has_text="alpha")
    expect(card).to_contain_text("pending")
    viewer.picture("3-pending")
    card.get_by_role("button", name="Approve alpha").click()
    expect(card).to_contain_text("connected")

    mark = new_mark()
    colours = r"printf 'plain \033[31mred\033[0m\n'"
    page.get_by_role("textbox", name="Command", exact=True).fill(f"{colours}; sleep {mark}; echo over")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile("/tasks/[0-9a-f-]{36}/$"))
    output = page.get_by_role("region", name="Output of the command")
    expect(output.get_by_text("red", exact=True)).to_have_css("color", RED)
    expect(output).not_to_contain_text("over")
    badge = page.locator("#task-status")
    expect(badge).to_have_text("running")
    viewer.picture("4-live-output")
    wake(mark)
    expect(output).to_contain_text("over")
    expect(badge).to_have_text("completed")
    viewer.picture("5-completed")

    page.get_by_role("link", name="Dashboard").click()
    ended = page.get_by_role("region", name="Ended last")
    expect(ended.get_by_role("row").nth(1)).to_contain_text("completed")
    expect(page.get_by_role("region", name="Events")).to_contain_text("alpha")
    viewer.picture("6-dashboard")
