"""The sign-in of all pages, ours, the admin's and those of the API: says plainly when it is locked."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts_app import lockout

MINUTE_S = 60
HOUR_MINUTES = 60


class SignInForm(AuthenticationForm):
    """Name and password; the lockout stands behind it, in the authentication backend."""

    error_messages = {  # noqa: RUF012 - Django's own class attribute
        "invalid_login": "Wrong user name or password. Both are case-sensitive.",
        "inactive": "This account is disabled.",
    }

    def get_invalid_login_error(self) -> ValidationError:
        """Return why nobody was signed in: a wrong password, or too many of them."""
        name = self.cleaned_data.get("username", "")
        locked_s = lockout.seconds_locked(name, lockout.address_of(self.request), datetime.now(UTC))
        if not locked_s:
            return super().get_invalid_login_error()
        return ValidationError(f"Too many failed sign-ins. Try again in {_words(locked_s)}.", code="locked")


class SignIn(LoginView):
    """Signs in and goes on to `next`, when that is an address of this server."""

    template_name = "dashboard/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sign in; 503 where the disk is so full that not even a session can be stored."""
        try:
            return super().post(request, *args, **kwargs)
        except OperationalError:
            return render(
                request, "503.html", {"detail": "nobody can be signed in, since nothing can be stored"}, status=503
            )


def _words(wait_s: int) -> str:
    minutes = math.ceil(wait_s / MINUTE_S)
    if minutes == 1:
        return "a minute"
    return f"{minutes} minutes" if minutes <= HOUR_MINUTES else f"{math.ceil(minutes / HOUR_MINUTES)} hours"
