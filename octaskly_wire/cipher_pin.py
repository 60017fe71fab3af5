"""Makes OpenSSL offer TLS_AES_256_GCM_SHA384 only. Must run before anything loads OpenSSL; imports nothing that does.

This is the first of two guards. The second, `tls.check_cipher` after every handshake, holds even where this
one came too late.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

OPENSSL_CONF = Path(__file__).with_name("openssl.cnf")


def is_openssl_loaded() -> bool:
    """Return whether this process has OpenSSL already, so that a pin comes too late."""
    return any(name in sys.modules for name in ("_ssl", "_hashlib"))


def pin_cipher_suite() -> bool:
    """Point OpenSSL at our configuration; return whether that came in time."""
    if is_openssl_loaded():
        return os.environ.get("OPENSSL_CONF") == str(OPENSSL_CONF)
    os.environ["OPENSSL_CONF"] = str(OPENSSL_CONF)
    return True
