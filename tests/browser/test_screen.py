"""The terminal of a task's page: two streams in one place, followed or not, and never more than a page can hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.static_page import static_page
from tests.support.wait import wait_until

BODY = '<div class="screen"><div class="terminal" id="output" tabindex="0"></div></div>'
BEGIN = """
async () => {
  const { Screen } = await import("/js/task/screen.js");
  window.told = { cuts: 0, follows: [] };
  window.screen_ = new Screen(document.getElementById("output"), {
    onCut: () => (window.told.cuts += 1),
    onFollow: (isFollowing) => window.told.follows.push(isFollowing),
  });
}
"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page with an empty screen."""
    page = static_page(browser, BODY, "tokens", "base", "ansi", "task")
    page.evaluate(BEGIN)
    yield page
    page.close()


def write(page: Page, *pieces: tuple[str, str]) -> None:
    """Write pieces of streams."""
    page.evaluate("(pieces) => pieces.forEach(([stream, text]) => window.screen_.write(stream, text))", list(pieces))


def test_streams_do_not_tear_each_others_lines(page: Page) -> None:
    """An unfinished line goes on where its stream goes on, behind what the other one wrote meanwhile."""
    lines = page.locator("#output .line")
    write(page, ("stdout", "one\nworking"))
    expect(lines).to_have_text(["one", "working"])
    write(page, ("stderr", "careful\n"), ("stdout", "... done\n"), ("stderr", "half"))
    expect(lines).to_have_text(["one", "careful", "working... done", "half"])
    assert page.locator("#output .stderr").all_text_contents() == ["careful", "half"]


def test_a_flood_stays_bounded_and_the_end_in_sight(page: Page) -> None:
    """Of 60,000 lines at once the newest are kept, the page says that it let go of others, and the last is seen."""
    write(
        page,
        *(
            ("stdout", "".join(f"line {number}\n" for number in range(first, first + 500)))
            for first in range(0, 60_000, 500)
        ),
    )
    last = page.locator("#output .line").last
    expect(last).to_have_text("line 59999")
    expect(last).to_be_in_viewport()
    assert page.locator("#output .line").count() <= 20_200
    assert page.evaluate("window.told.cuts") > 0


def test_following_stops_when_the_reader_scrolls_up(page: Page) -> None:
    """What comes then does not move the page; at the end it follows again."""
    write(page, ("stdout", "".join(f"line {number}\n" for number in range(400))))
    expect(page.locator("#output .line").last).to_be_in_viewport()
    top = page.evaluate(
        "() => { const view = document.getElementById('output'); view.scrollTop -= 900; return view.scrollTop; }"
    )
    wait_until(lambda: page.evaluate("window.told.follows") == [False], "it stops to follow")
    write(page, ("stdout", "more\n" * 50))
    expect(page.locator("#output .line").last).to_have_text("more")
    assert page.evaluate("document.getElementById('output').scrollTop") == top
    page.evaluate("window.screen_.follow(true)")
    expect(page.locator("#output .line").last).to_be_in_viewport()
    assert page.evaluate("window.told.follows") == [False, True]
