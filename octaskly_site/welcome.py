"""What the operator reads when the dispatcher is up: the address, the first login, how to join a machine."""

from __future__ import annotations

import logging
import sys

from django.db import OperationalError, connections

from dispatcher.shell.beacon import lan_addresses
from octaskly_site.options import DispatcherOptions
from workers_app.services import ClusterIdentity, create_join_token

logger = logging.getLogger(__name__)

JOIN_TTL_S = 3600


def print_welcome(options: DispatcherOptions, cluster: ClusterIdentity, admin: tuple[str, str | None]) -> None:
    """Print it on stdout. The join line carries a token for one machine and one hour."""
    token = _new_token()
    is_any = options.bind in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    address = next(iter(lan_addresses()), "127.0.0.1") if is_any else options.bind
    username, password = admin
    shown = "127.0.0.1" if options.api_host in {"0.0.0.0", "::"} else options.api_host  # noqa: S104
    lines = [
        f"Octaskly dispatcher ready   cluster {cluster.cluster_id[:8]}, database {options.db_path}",
        "",
        f"  Web        http://{shown}:{options.api_port}/admin/",
        f"  API        http://{shown}:{options.api_port}/api/v1/",
    ]
    if password:
        lines.append(f"  Login      {username} / {password}   (shown this once)")
    else:
        lines.append(f"  Login      {username}")
    lines.append("")
    command = f"python -m worker_node --dispatcher-addr {address}:{options.port}"
    if token:
        lines += [
            "  Join another machine (this token serves one machine, for one hour):",
            f"    {command} --join-token {token}",
            "",
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _new_token() -> str | None:
    """Return a join token, or None when the disk is full: a dispatcher that starts then can still be read."""
    try:
        return create_join_token(uses=1, ttl_s=JOIN_TTL_S, auto_approve=True, actor=None)
    except OperationalError as error:
        logger.error("No join token was made: %s", error)  # noqa: TRY400 - the disk's fault, no traceback
        return None
    finally:
        connections.close_all()
