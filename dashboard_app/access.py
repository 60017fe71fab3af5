"""Who may open a page: the roles of REST, for people with a browser."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts_app.roles import Role, roles_of

Page = Callable[..., HttpResponseBase]
OPERATORS = frozenset({Role.ADMIN, Role.DISPATCHER})
TASK_USERS = OPERATORS | {Role.CLIENT}


def roles_only(roles: frozenset[Role]) -> Callable[[Page], Page]:
    """Let in who has one of the roles; send strangers to the sign-in, and refuse everybody else."""

    def decorate(page: Page) -> Page:
        @login_required
        @wraps(page)
        def guarded(request: HttpRequest, *arguments: Any, **named: Any) -> HttpResponseBase:
            if roles.isdisjoint(roles_of(request.user)):
                raise PermissionDenied("your role does not allow this page")
            return page(request, *arguments, **named)

        return guarded

    return decorate


operators_only = roles_only(OPERATORS)
task_users_only = roles_only(TASK_USERS)
