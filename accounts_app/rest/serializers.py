"""Bodies of the sign-in routes."""

from __future__ import annotations

from rest_framework import serializers

from accounts_app.rest.strict import StrictSerializer, Text
from accounts_app.strict_tokens import MAX_TOKEN_LENGTH


class CredentialsSerializer(StrictSerializer):
    """What somebody signs in with."""

    username = Text(max_length=150)
    password = Text(max_length=4096, trim_whitespace=False, write_only=True, style={"input_type": "password"})


class RefreshSerializer(StrictSerializer):
    """A refresh token."""

    refresh = Text(max_length=MAX_TOKEN_LENGTH)


class TokenPairSerializer(serializers.Serializer):
    """Tokens: `access` goes into the Authorization header, `refresh` gets the next pair, once."""

    access = serializers.CharField()
    refresh = serializers.CharField()
