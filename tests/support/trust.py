"""What a dispatcher in a test proves itself with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dispatcher.core.config import EngineConfig
from dispatcher.shell.credentials import Credentials
from dispatcher.shell.service import DispatcherService
from dispatcher.shell.trust_desk import TrustDesk
from dispatcher.shell.writer import StoreWriter
from octaskly_wire import identity


def credentials_of(ca: bytes, ca_key: Ed25519PrivateKey, cluster_id: str) -> Credentials:
    """Return a fresh leaf of the CA, and trust in it alone."""
    key = identity.new_key()
    leaf = identity.issue_dispatcher_certificate(ca, ca_key, cluster_id, key.public_key(), datetime.now(UTC))
    return Credentials(key, leaf, [ca])


def service_with(credentials: Credentials, store: Any, writer: StoreWriter) -> DispatcherService:
    """Return an engine's shell whose workers are told whom to trust by these credentials."""
    return DispatcherService(EngineConfig(), store, writer, TrustDesk(credentials, store, writer))
