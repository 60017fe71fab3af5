"""A person's session without a browser: cookies, as the sign-in page gives them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import httpx

CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@contextlib.contextmanager
def signed_in(url: str, username: str, password: str) -> Iterator[httpx.Client]:
    """Sign in and give the client that has the cookies; it keeps one connection."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False, headers={"Referer": url}) as http:
        form = CSRF.search(http.get("/login/").text)
        assert form is not None, "the sign-in page has no form"
        fields = {"csrfmiddlewaretoken": form[1], "username": username, "password": password}
        answer = http.post("/login/", data=fields)
        assert answer.status_code == 302, f"sign-in of {username}: {answer.status_code}"
        yield http
