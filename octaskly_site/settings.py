"""Django settings, read from OCTASKLY_* variables. docs/configuration.md lists them all."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from csp.constants import NONE, SELF

from accounts_app.conf import (
    AUTHENTICATION_BACKENDS,  # noqa: F401 - settings by being named here
    REST_FRAMEWORK,  # noqa: F401
    SPECTACULAR_PREPROCESSING_HOOKS,
    simple_jwt_settings,
)
from octaskly_site import env
from octaskly_site.former_keys import read_former_keys
from octaskly_site.secret_key import derive_keys, find_secret
from octaskly_site.staged_secret import secret_that_opens
from octaskly_wire import __version__
from octaskly_wire.identity import DISPATCHER_LIFETIME, WORKER_LIFETIME
from octaskly_wire.limits import HEARTBEAT_INTERVAL_S, LEASE_S, RECONNECT_GRACE_S
from octaskly_wire.vocabulary import SandboxLevel

BASE_DIR = Path(__file__).resolve().parent.parent
DB_PATH = env.db_path()

_given = env.text("OCTASKLY_SECRET_KEY")
_secret = find_secret(DB_PATH.parent, _given, may_create=sys.argv[1:2] == ["rundispatcher"])
_keys = derive_keys(_given or secret_that_opens(DB_PATH, _secret))
SECRET_KEY = _keys.django
OCTASKLY_FORMER_KEYS = read_former_keys(DB_PATH, _keys.ca_wrapping)
SECRET_KEY_FALLBACKS = [former.django for former in OCTASKLY_FORMER_KEYS]
OCTASKLY_AUDIT_KEY = _keys.audit  # Of rows from before the trail's keys were ratcheted.
OCTASKLY_AUDIT_SEALING_KEY = _keys.audit_sealing
OCTASKLY_AUDIT_CHECKPOINTS = env.text("OCTASKLY_AUDIT_CHECKPOINTS") or str(DB_PATH.with_name("audit-checkpoints.jsonl"))
OCTASKLY_CA_WRAPPING_KEY = _keys.ca_wrapping

OCTASKLY_VERSION = __version__
OCTASKLY_STARTED_AT_MONOTONIC = time.monotonic()
OCTASKLY_DEFAULT_SANDBOX = env.choice("OCTASKLY_DEFAULT_SANDBOX", SandboxLevel, SandboxLevel.STRICT.value)
OCTASKLY_MAX_QUEUED_TASKS = int(env.number("OCTASKLY_MAX_QUEUED_TASKS", 1_000_000, least=1, most=1_000_000_000))
OCTASKLY_MAX_REQUESTS_PER_S = env.number("OCTASKLY_MAX_REQUESTS_PER_S", 1000, least=0, most=1_000_000)
OCTASKLY_DISK_RESERVE_MB = env.number("OCTASKLY_DISK_RESERVE_MB", 64, least=0, most=1_000_000_000)
OCTASKLY_MAX_FILE_MB = int(env.number("OCTASKLY_MAX_FILE_MB", 10_240, least=1, most=1_000_000_000))
OCTASKLY_FILES_QUOTA_MB = int(env.number("OCTASKLY_FILES_QUOTA_MB", 102_400, least=1, most=1_000_000_000))
OCTASKLY_KEEP_OUTPUTS_DAYS = env.number("OCTASKLY_KEEP_OUTPUTS_DAYS", 30, least=0, most=36_500)
OCTASKLY_KEEP_UPLOADS_DAYS = env.number("OCTASKLY_KEEP_UPLOADS_DAYS", 1, least=0, most=36_500)
OCTASKLY_KEEP_VITALS_DAYS = env.number("OCTASKLY_KEEP_VITALS_DAYS", 7, least=0, most=3650)
OCTASKLY_METRICS_TOKEN = env.secret("OCTASKLY_METRICS_TOKEN")
OCTASKLY_HEARTBEAT_S = env.number("OCTASKLY_HEARTBEAT_S", HEARTBEAT_INTERVAL_S, least=0.1, most=3600)
OCTASKLY_LEASE_S = env.number("OCTASKLY_LEASE_S", LEASE_S, least=0.2, most=86400)
OCTASKLY_RECONNECT_GRACE_S = env.number("OCTASKLY_RECONNECT_GRACE_S", RECONNECT_GRACE_S, least=0, most=86400)
OCTASKLY_WORKER_CERTIFICATE_S = env.number(
    "OCTASKLY_WORKER_CERTIFICATE_S", WORKER_LIFETIME.total_seconds(), least=10, most=366 * 86400
)
OCTASKLY_DISPATCHER_CERTIFICATE_S = env.number(
    "OCTASKLY_DISPATCHER_CERTIFICATE_S", DISPATCHER_LIFETIME.total_seconds(), least=10, most=366 * 86400
)

DEBUG = False
# Names other than these are refused, against DNS rebinding; rundispatcher adds the machine's own.
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *filter(None, env.text("OCTASKLY_ALLOWED_HOSTS").split(","))]
ROOT_URLCONF = "octaskly_site.urls"
ASGI_APPLICATION = "octaskly_site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
APPEND_SLASH = False
STATIC_URL = "/static/"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"

# Daphne is not among them: its app only replaces `runserver`, and makes an event loop as soon as it is imported.
INSTALLED_APPS = [
    "dashboard_app",  # Before the admin, whose templates it dresses.
    "dashboard_app.apps.DressedAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "rest_framework_simplejwt",
    "rest_framework_simplejwt.token_blacklist",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts_app",
    "audit_app",
    "workers_app",
    "tasks_app",
    "metrics_app",
    "octaskly_site",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "octaskly_site.page_headers.page_headers",
    "octaskly_site.read_only.read_only_while_full",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
MESSAGE_STORAGE = (
    "django.contrib.messages.storage.session.SessionStorage"  # The usual one reads a cookie of each request.
)
WHITENOISE_USE_FINDERS = True  # No collectstatic step between a fresh clone and the admin's pages.
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 0  # Names stay over releases: browsers ask each time, and mostly hear that nothing changed.

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard_app.context.viewer",
            ]
        },
    }
]

SQLITE_INIT = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
PRAGMA foreign_keys=ON;
PRAGMA temp_store=MEMORY;
PRAGMA cache_size=-16000;
PRAGMA secure_delete=FAST;
PRAGMA journal_size_limit=4194304;
"""
"""The last two: keys that the audit trail has left behind shall neither stand in free space nor long in the WAL."""

DATABASES = {
    "default": {
        "ENGINE": "octaskly_site.sqlite",
        "NAME": str(DB_PATH),
        "CONN_MAX_AGE": None,  # Threads keep theirs.
        "OPTIONS": {
            # IMMEDIATE: a transaction that will write never finds at its end that another came first.
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": SQLITE_INIT,
        },
        # In memory would have no WAL and no second process: tests use a real file like everybody.
        "TEST": {"NAME": str(DB_PATH.with_name(f"test-{DB_PATH.stem}.db"))},
    }
}

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# Off loopback, or where --https asks for it, the dispatcher turns these on by itself (web/front.py).
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = env.switch("OCTASKLY_HTTPS")
# Strict-Transport-Security speaks for a whole machine, whatever the port: set here it would shut browsers out of whatever
# else that machine serves in plain HTTP.
SILENCED_SYSTEM_CHECKS = ["security.W004"]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_SAMESITE = "Strict"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
"""Bytes of one request body; lists of tasks and files have bounds of their own."""

SIMPLE_JWT = simple_jwt_settings(_keys.jwt)
SPECTACULAR_SETTINGS = {
    "TITLE": "Octaskly",
    "DESCRIPTION": "Turns the machines on a LAN into one: submit shell commands, watch them, read what came of them.",
    "VERSION": OCTASKLY_VERSION,
    "OAS_VERSION": "3.1.1",
    # The pages of /docs come from here: a LAN may have no way out.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "PREPROCESSING_HOOKS": SPECTACULAR_PREPROCESSING_HOOKS,
    # A task stands in the schema twice, with its warnings and without.
    "ENUM_NAME_OVERRIDES": {
        "TaskStatusEnum": "tasks_app.models.TaskStatus",
        "SandboxEnum": "tasks_app.models.SANDBOX_CHOICES",
        "FailureReasonEnum": "tasks_app.models.FAILURE_CHOICES",
    },
}

LOGGING_CONFIG = None  # octaskly_site.logs sets up logging, from OCTASKLY_LOG.
