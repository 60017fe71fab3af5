"""What happens around accounts and access, for apps above to hear of."""

from __future__ import annotations

from django.dispatch import Signal

login_refused = Signal()
"""A wrong password. kwargs: username, address, failures (in the window), is_locked (from now on)."""

token_refreshed = Signal()
"""A refresh token was exchanged. kwargs: user, address."""

token_reused = Signal()
"""A refresh token came a second time, so its whole sign-in was ended. kwargs: user, address."""

permission_denied = Signal()
"""A signed-in user asked for what the role does not allow. kwargs: user, method, path, address."""

limit_reached = Signal()
"""Somebody's budget is spent; at most once a minute. kwargs: limit (its name), username (or ""), address."""

account_changed = Signal()
"""An account was made, changed or deleted. kwargs: actor (user or None), username, change, details."""
