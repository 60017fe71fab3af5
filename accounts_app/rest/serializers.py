"""Bodies of the sign-in routes."""

from __future__ import annotations

from rest_framework import serializers

MAX_TOKEN_LENGTH = 4096


class CredentialsSerializer(serializers.Serializer):
    """What somebody signs in with."""

    username = serializers.CharField(max_length=150)
    password = serializers.CharField(
        max_length=4096, trim_whitespace=False, write_only=True, style={"input_type": "password"}
    )


class RefreshSerializer(serializers.Serializer):
    """A refresh token."""

    refresh = serializers.CharField(max_length=MAX_TOKEN_LENGTH)


class TokenPairSerializer(serializers.Serializer):
    """Tokens: `access` goes into the Authorization header, `refresh` gets the next pair, once."""

    access = serializers.CharField()
    refresh = serializers.CharField()
