"""Settings of REST framework and JWT, as values that the settings module takes over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

ACCESS_TOKEN_LIFETIME = timedelta(minutes=15)
REFRESH_TOKEN_LIFETIME = timedelta(days=7)

AUTHENTICATION_BACKENDS = ["accounts_app.backends.GuardedModelBackend"]

REST_FRAMEWORK: dict[str, Any] = {
    # Session is for people who look at the browsable API; it checks CSRF.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts_app.rest.authentication.TokenAuthentication",
        "accounts_app.rest.authentication.SessionAuthentication",
        "accounts_app.rest.authentication.Stranger",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts_app.permissions.DenyUndeclared"],
    "DEFAULT_RENDERER_CLASSES": [
        "accounts_app.rest.renderers.QuickJson",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "accounts_app.rest.negotiation.QuickNegotiation",
    "DEFAULT_PARSER_CLASSES": ["accounts_app.rest.parsers.JsonBody"],
    "DEFAULT_PAGINATION_CLASS": "accounts_app.rest.pagination.CursorPages",
    "DEFAULT_FILTER_BACKENDS": ["accounts_app.rest.filters.KnownParameters"],
    "DEFAULT_SCHEMA_CLASS": "accounts_app.rest.schema.ApiSchema",
    "EXCEPTION_HANDLER": "accounts_app.rest.problems.to_problem_response",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

SPECTACULAR_PREPROCESSING_HOOKS = ["accounts_app.rest.schema.canonical_paths"]


def simple_jwt_settings(signing_key: str) -> dict[str, Any]:
    """Return SIMPLE_JWT for tokens signed with this key."""
    return {
        "ALGORITHM": "HS256",
        "SIGNING_KEY": signing_key,
        "ISSUER": "octaskly",
        "AUDIENCE": "octaskly-api",
        "ACCESS_TOKEN_LIFETIME": ACCESS_TOKEN_LIFETIME,
        "REFRESH_TOKEN_LIFETIME": REFRESH_TOKEN_LIFETIME,
        "ROTATE_REFRESH_TOKENS": True,
        "BLACKLIST_AFTER_ROTATION": True,
        "USER_ID_CLAIM": "sub",
        "AUTH_TOKEN_CLASSES": ("accounts_app.strict_tokens.StrictAccessToken",),
        # A changed password ends every token that was given out under the old one.
        "CHECK_REVOKE_TOKEN": True,
        "REVOKE_TOKEN_CLAIM": "pwd",
        "AUTH_HEADER_TYPES": ("Bearer",),
    }
