"""Sign in, exchange a refresh token, sign out."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app import limits, lockout, signals, tokens
from accounts_app.backends import GuardedModelBackend
from accounts_app.charging import charge_account
from accounts_app.permissions import Public
from accounts_app.rest.authentication import Stranger
from accounts_app.rest.problems import Problem
from accounts_app.rest.schema import refusals
from accounts_app.rest.serializers import CredentialsSerializer, RefreshSerializer, TokenPairSerializer

NOT_TO_BE_KEPT = {"Cache-Control": "no-store"}


class SignInView(APIView):
    """Base of the three: no one is signed in yet, and a stale token in the header is no obstacle."""

    permission_classes = [Public]
    authentication_classes = [Stranger]

    def get_authenticate_header(self, request: Request) -> str:
        """Return what a 401 says in WWW-Authenticate."""
        return 'Bearer realm="api"'


class TokenView(SignInView):
    """Sign in."""

    @extend_schema(
        operation_id="auth_token",
        tags=["auth"],
        auth=[],
        request=CredentialsSerializer,
        responses={200: TokenPairSerializer, **refusals(401)},
    )
    def post(self, request: Request) -> Response:
        """Give an access and a refresh token for a username and password.

        Five failures of one user from one address within 15 minutes: 429 until Retry-After, which grows each time.
        """
        form = CredentialsSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        username = form.validated_data["username"]
        plain_request = request._request
        try:
            # Not through Django, which would make a wrong password of a refusal that says how long it lasts.
            user = GuardedModelBackend().authenticate(plain_request, username, form.validated_data["password"])
        except lockout.SignInLocked as refusal:
            raise Problem(
                429,
                detail="too many failed sign-ins; try again later",
                headers={"Retry-After": str(refusal.wait_s)},
            ) from refusal
        if user is None:
            raise AuthenticationFailed("no active account has this username and password")
        charge_account(limits.TOKENS, request, user)
        with transaction.atomic():
            pair = tokens.issue(user)
            user_logged_in.send(sender=type(user), request=plain_request, user=user, method="token")
        return _answer(pair)


class RefreshView(SignInView):
    """Exchange a refresh token."""

    @extend_schema(
        operation_id="auth_refresh",
        tags=["auth"],
        auth=[],
        request=RefreshSerializer,
        responses={200: TokenPairSerializer, **refusals(401)},
    )
    def post(self, request: Request) -> Response:
        """Give a new pair for a refresh token, which serves once.

        A token that comes a second time ends the whole sign-in it belongs to.
        """
        text, address = _refresh_text(request), lockout.address_of(request)
        try:
            charge_account(limits.TOKENS, request, tokens.owner_of(text))
            with transaction.atomic():
                user, pair = tokens.exchange(text)
                signal = signals.token_refreshed if pair else signals.token_reused
                signal.send(sender=type(user), user=user, address=address)
        except tokens.TokenRefused as error:
            raise AuthenticationFailed(str(error)) from error
        if pair is None:
            raise AuthenticationFailed("the refresh token was used before, so this sign-in has been ended")
        return _answer(pair)


class LogoutView(SignInView):
    """Sign out."""

    @extend_schema(
        operation_id="auth_logout",
        tags=["auth"],
        auth=[],
        request=RefreshSerializer,
        responses={204: OpenApiResponse(description="Signed out"), **refusals(401)},
    )
    def post(self, request: Request) -> Response:
        """End the sign-in that a refresh token belongs to. Access tokens given out live on for 15 min at most."""
        text = _refresh_text(request)
        try:
            charge_account(limits.TOKENS, request, tokens.owner_of(text))
            with transaction.atomic():
                user = tokens.end(text)
                user_logged_out.send(sender=type(user), request=request._request, user=user, method="token")
        except tokens.TokenRefused as error:
            raise AuthenticationFailed(str(error)) from error
        return Response(status=204)


def _refresh_text(request: Request) -> Any:
    form = RefreshSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    return form.validated_data["refresh"]


def _answer(pair: tokens.TokenPair) -> Response:
    return Response({"access": pair.access, "refresh": pair.refresh}, headers=NOT_TO_BE_KEPT)
