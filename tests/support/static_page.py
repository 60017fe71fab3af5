"""A page without a server, with the static files of the dashboard and its content policy: for its scripts alone."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from playwright.sync_api import Browser, Page, Route

STATIC = Path(__file__).resolve().parents[2] / "dashboard_app" / "static" / "dashboard"
ORIGIN = "http://pages.test"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'"


def static_page(browser: Browser, body: str, *styles: str) -> Page:
    """Open a page with this body and these style sheets of `css/`; scripts can be imported as `/js/...`."""
    links = "".join(f'<link rel="stylesheet" href="/css/{name}.css">' for name in styles)
    html = f'<!doctype html><html lang="en"><title>test</title>{links}<body>{body}</body></html>'

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN).lstrip("/")
        if not path:
            route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": POLICY})
        elif (file := STATIC / path).is_file():
            route.fulfill(body=file.read_bytes(), content_type=mimetypes.guess_type(path)[0] or "text/plain")
        else:
            route.fulfill(status=404)

    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.route("**/*", answer)
    page.goto(f"{ORIGIN}/")
    return page
