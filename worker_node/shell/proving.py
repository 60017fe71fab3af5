"""What a worker says and hears while it proves itself on a new connection, whatever carries that."""

from __future__ import annotations

import secrets
from typing import Final, TypeVar

from octaskly_wire import __version__, auth
from octaskly_wire.errors import BadProof, UnexpectedMessage
from octaskly_wire.limits import PROTOCOL_VERSION
from octaskly_wire.messages import Auth, Challenge, Hello, Refused, ToWorker
from octaskly_wire.vocabulary import LinkPurpose
from worker_node.shell.keyfile import Identity

Expected = TypeVar("Expected", bound=ToWorker)


class DispatcherRefused(Exception):
    """The dispatcher answered with Refused."""

    def __init__(self, refusal: Refused) -> None:
        """Keep the answer."""
        super().__init__(f"{refusal.code}: {refusal.detail}")
        self.refusal = refusal


class Proof:
    """One connection's proof: a hello, and the answer to the challenge that follows."""

    def __init__(self, identity: Identity, boot_id: str, transport: str, purpose: LinkPurpose) -> None:
        """Choose this connection's nonce."""
        self._identity: Final = identity
        self._transport: Final = transport
        nonce = secrets.token_bytes(32)
        self.hello: Final = Hello(PROTOCOL_VERSION, identity.worker_id, boot_id, nonce, __version__, purpose)

    def answer(self, challenge: Challenge, server_certificate: bytes | None) -> Auth:
        """Return the proof; raise BadProof when the peer cannot be this worker's dispatcher."""
        identity, hello = self._identity, self.hello
        if challenge.cluster_id != identity.cluster_id:
            raise BadProof("the dispatcher belongs to another cluster")
        if server_certificate is None:
            raise BadProof("the dispatcher showed no certificate")
        transcript = auth.transcript(
            cluster_id=identity.cluster_id,
            transport=self._transport,
            server_certificate_der=server_certificate,
            server_nonce=challenge.nonce,
            client_nonce=hello.nonce,
            worker_id=hello.worker_id,
            boot_id=hello.boot_id,
        )
        return Auth(identity.certificate, auth.sign(identity.key, transcript))


def expected(message: ToWorker, kind: type[Expected]) -> Expected:
    """Return the message, which must be of this kind; raise DispatcherRefused when it is a refusal."""
    if isinstance(message, Refused):
        raise DispatcherRefused(message)
    if not isinstance(message, kind):
        raise UnexpectedMessage(f"{type(message).__name__} instead of {kind.__name__}")
    return message
