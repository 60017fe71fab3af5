"""`python -m worker_node`: arguments, then the node, then an exit code."""

from __future__ import annotations

import os
import sys

from octaskly_wire.cipher_pin import pin_cipher_suite

# As it was given: what is set for our own TLS is nothing for tasks.
INHERITED = dict(os.environ)

# Before anything loads OpenSSL, which reads its configuration once.
pin_cipher_suite()

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import logging  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from worker_node import config as config_module  # noqa: E402
from worker_node import logs, node  # noqa: E402
from worker_node.sandbox import kernel, probe  # noqa: E402
from worker_node.sandbox.workspace import Workspaces  # noqa: E402
from worker_node.shell.joiner import CannotJoin  # noqa: E402
from worker_node.shell.keyfile import StateFolder, StateFolderError  # noqa: E402
from worker_node.shell.witness import print_kept  # noqa: E402

logger = logging.getLogger("worker_node")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker; return 0 fine, 1 failed, 2 bad usage."""
    config = config_module.parse(sys.argv[1:] if arguments is None else arguments, INHERITED)
    logs.set_up(config.log_level, config.log_levels, as_json=config.logs_json)
    _harden()
    if config.is_check:
        return _check(allows_network=config.allows_network)
    if config.is_witness:
        return print_kept(config.state_dir)
    try:
        with contextlib.closing(StateFolder(config.state_dir)) as folder:
            return asyncio.run(node.run(config, folder, INHERITED))
    except (StateFolderError, CannotJoin) as error:
        logger.error("%s", error, extra={"event": "worker_failed"})  # noqa: TRY400 - the text says it all
        return 1


def _check(*, allows_network: bool) -> int:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="octaskly-check-") as folder:
        reports = asyncio.run(node.check_levels(Workspaces(Path(folder)), allows_network=allows_network))
    print(probe.table(reports))
    return 0 if any(report.is_proven for report in reports) else 1


def _harden() -> None:
    """Keep tasks of the same user out of this process's memory, and have descriptors for many commands."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            kernel.hide_memory()
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
