"""Logging of the dispatcher: the worker's formats and levels, with the web stack's chatter turned down."""

from __future__ import annotations

import logging
import os

from octaskly_site.env import ConfigurationError
from worker_node import logs

QUIET = {
    "daphne": logs.LEVELS["warn"],
    "django.utils.autoreload": logs.LEVELS["warn"],
    # At debug it tells of every variable that a template may do without.
    "django.template": logs.LEVELS["info"],
    # A refused login or an unknown address is the client's affair and stands in the audit.
    "django.request": logs.LEVELS["error"],
    "django.security.DisallowedHost": logging.CRITICAL,
    "django.db.backends": logs.LEVELS["warn"],
}


def set_up(*, as_json: bool) -> None:
    """Send all logs to standard error; raises ConfigurationError when OCTASKLY_LOG is no level."""
    try:
        general, modules = logs.levels_from(os.environ)
    except logs.BadLogLevels as error:
        raise ConfigurationError(f"OCTASKLY_LOG: {error}", exit_code=2) from error
    logs.set_up(general, {**QUIET, **modules}, as_json=as_json)
