"""Sets the process up for its web server: names, cookies, certificate, limits, and where large bodies wait."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings

from octaskly_site.options import DispatcherOptions
from octaskly_site.web.certificate import ServerCertificate, is_loopback, make_own, names_of_machine
from octaskly_site.web.limits import SLACK_BYTES, WebLimits
from tasks_app.submission import MAX_BODY_BYTES
from workers_app.services import ClusterIdentity

logger = logging.getLogger(__name__)

MEGABYTE = 1 << 20
SCRATCH_FOLDER = "tmp"


@dataclass(frozen=True, slots=True)
class Front:
    """What the web server is made with."""

    limits: WebLimits
    own: ServerCertificate | None
    """None where it speaks plain HTTP."""


def prepare_front(options: DispatcherOptions, cluster: ClusterIdentity, now: datetime) -> Front:
    """Set up what is of the whole process and return the rest."""
    # Answers to this machine's own names and to no other, against DNS rebinding.
    settings.ALLOWED_HOSTS.extend(f"[{name}]" if ":" in name else name for name in names_of_machine(options.api_host))
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = options.serves_https
    settings.SECURE_SSL_REDIRECT = options.serves_https
    if not options.serves_https:
        # A proxy with TLS in front leaves the browser's word, which is https, and passes plain HTTP on.
        settings.CSRF_TRUSTED_ORIGINS = [f"https://{name}" for name in settings.ALLOWED_HOSTS]
        if not is_loopback(options.api_host):
            logger.warning(
                "--insecure-http: passwords and tokens cross the network in the clear, unless a proxy with TLS is in front"
            )
    limits = WebLimits(
        max_file_bytes=settings.OCTASKLY_MAX_FILE_MB * MEGABYTE,
        max_tasks_bytes=MAX_BODY_BYTES + SLACK_BYTES,
        max_other_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE + SLACK_BYTES,
        scratch_folder=_scratch_folder(options.db_path.parent / SCRATCH_FOLDER),
    )
    own = make_own(cluster.server_key, options.api_host, now) if options.serves_https else None
    return Front(limits, own)


def _scratch_folder(folder: Path) -> str:
    """Return a folder on the database's disk, empty: /tmp is memory on many machines."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for (
            left
        ) in folder.iterdir():  # By a dispatcher that was killed, where a system cannot open files without names.
            left.unlink()
    except OSError as error:  # On a full disk there is reading to be done, and large bodies are refused one by one.
        logger.warning("%s cannot be used for large uploads: %s", folder, error.strerror)
    return str(folder)
