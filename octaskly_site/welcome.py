"""What the operator reads when the dispatcher is up: the address, the first login, how to join a machine."""

from __future__ import annotations

import logging
import sys

from django.db import OperationalError, connections

from dispatcher.shell.beacon import lan_addresses
from octaskly_site.options import DispatcherOptions
from octaskly_site.web.certificate import ANY_ADDRESS
from octaskly_wire.address import HostPort
from workers_app.services import ClusterIdentity, create_join_token, join_line, record_address

logger = logging.getLogger(__name__)

JOIN_TTL_S = 3600


def print_welcome(options: DispatcherOptions, cluster: ClusterIdentity, admin: tuple[str, str | None]) -> None:
    """Print it on stdout, and keep the address for lines that are made later.

    The join line carries a token for one machine and one hour.
    """
    address = str(_workers_address(options))
    token = _new_token(address)
    username, password = admin
    scheme = "https" if options.serves_https else "http"
    host = "127.0.0.1" if options.api_host in ANY_ADDRESS else options.api_host
    url = f"{scheme}://{HostPort(host, options.api_port)}"
    lines = [
        f"Octaskly dispatcher ready   cluster {cluster.cluster_id[:8]}, database {options.db_path}",
        "",
        f"  Web        {url}/",
        f"  API        {url}/api/v1/",
    ]
    if options.serves_https:
        lines.append(f"  Pin        {cluster.pin}   (of the certificate, which no authority has signed)")
    login = f"{username} / {password}   (shown this once)" if password else username
    lines += [f"  Login      {login}", ""]
    if token:
        lines += [
            "  Join another machine (this token serves one machine, for one hour):",
            f"    {join_line(token, address)}",
            "  or, where Octaskly is installed:",
            f"    python -m worker_node --dispatcher-addr {address} --join-token {token}",
            "",
        ]
    connections.close_all()
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _workers_address(options: DispatcherOptions) -> HostPort:
    """Return where workers on other machines reach the dispatcher, as far as it can tell."""
    is_any = options.bind in ANY_ADDRESS
    return HostPort(next(iter(lan_addresses()), "127.0.0.1") if is_any else options.bind, options.port)


def _new_token(address: str) -> str | None:
    """Return a join token, or None when the disk is full: a dispatcher that starts then can still be read."""
    try:
        record_address(address)
        return create_join_token(uses=1, ttl_s=JOIN_TTL_S, auto_approve=True, actor=None)
    except OperationalError as error:
        logger.error("No join token was made: %s", error)  # noqa: TRY400 - the disk's fault, no traceback
        return None
