"""Takes what callers ask for out of their budgets, and refuses with 429 when there is nothing left."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import APIException

from accounts_app import limits
from accounts_app.lockout import address_of


class LimitReached(APIException):
    """The budget is spent. Answered with 429 and Retry-After, from `wait`."""

    status_code = 429

    def __init__(self, limit: limits.Limit, refusal: limits.Refusal) -> None:
        super().__init__(f"too many {limit.what}; try again later")
        self.wait = refusal.wait_s


def charge_request(request: Any, user: Any = None) -> None:
    """Take one REST request: of an account, or of the address where nobody is signed in. Raises LimitReached."""
    limit = limits.requests_limit()
    if limit is None:
        return
    if user is None:
        _charge(limit, limits.network_of(address_of(request)), request, "")
    else:
        charge_account(limit, request, user)


def charge_account(limit: limits.Limit, request: Any, user: Any) -> None:
    """Take one of an account's budget. Raises LimitReached."""
    _charge(limit, limits.key_of(user), request, user.get_username())


def _charge(limit: limits.Limit, key: str, request: Any, username: str) -> None:
    refusal = limit.take(key)
    if refusal is not None:
        limits.tell(limit, refusal, key, username=username, address=address_of(request))
        raise LimitReached(limit, refusal)
