"""Join tokens under abuse, used over real connections as a worker uses them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from octaskly_wire import identity
from octaskly_wire.codec import Codec
from octaskly_wire.errors import BadJoinToken, BadProof
from octaskly_wire.join_token import JoinToken
from octaskly_wire.vocabulary import Transport
from tests.support import transports
from tests.support.cluster import Cluster
from tests.support.wait import wait_until
from worker_node.config import Address
from worker_node.shell import dialing, quic_dialer, tcp_dialer
from worker_node.shell.proving import DispatcherRefused

AT_ONCE = 50
REFUSED_BEFORE = 3

pytestmark = pytest.mark.usefixtures("transport")


async def use(cluster: Cluster, token: JoinToken) -> object:
    """Enrol a machine with a key of its own; return its identity, or the dispatcher's refusal."""
    connect = tcp_dialer.connect if transports.current() is Transport.TCP else quic_dialer.connect
    address = Address("127.0.0.1", cluster.port)
    try:
        found, _ = await dialing.enrol(connect, address, token, identity.new_key(), "thief", Codec.MSGPACK)
    except DispatcherRefused as refused:
        return refused.refusal.detail
    return found


def test_a_token_opens_once_and_what_resembles_it_never(cluster: Cluster) -> None:
    """Mistyped, forged, old, for another cluster: nothing; good and used by fifty at once: one. The audit stays brief."""
    token = JoinToken.parse(opens_nothing_but_itself(cluster, cluster.join_token()))

    async def hurry() -> list[object]:
        return await asyncio.gather(*(use(cluster, token) for _ in range(AT_ONCE)))

    answers = asyncio.run(hurry())
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert len(refused) == AT_ONCE - 1
    assert all("used up" in detail for detail in refused)
    assert cluster.rows("SELECT count(*) FROM workers") == [(1,)]

    # A few have rows; the others are counted, and told at the latest when the dispatcher stops.
    assert cluster.dispatcher.stop() == 0
    counted = "SELECT json_extract(details, '$.count') FROM audit_log WHERE event_type = 'enrol_refused' ORDER BY rowid"
    assert [count for (count,) in cluster.rows(counted)] == [None] * 5 + [REFUSED_BEFORE + AT_ONCE - 1 - 5]


def opens_nothing_but_itself(cluster: Cluster, text: str) -> str:
    """Return the token after everything that resembles it was tried: three of these the dispatcher got to see."""
    token = JoinToken.parse(text)
    for mistyped in (text[:-1], text[:-30], text.replace("octa1-", "octa2-"), text[:-6] + "aa" + text[-4:], ""):
        with pytest.raises(BadJoinToken):
            JoinToken.parse(mistyped)
    with pytest.raises(BadProof, match="not the one that made this join token"):
        asyncio.run(use(cluster, replace(token, ca_digest=bytes(32))))
    for forged in (replace(token, secret="a" * 26), replace(token, token_id="a" * 8)):
        assert "knows no such join token" in str(asyncio.run(use(cluster, forged)))

    brief = cluster.api.post("join-tokens", {"uses": 1, "ttl_s": 1, "auto_approve": True})["token"]
    cluster.remember_token(brief)
    over = "SELECT count(*) FROM join_tokens WHERE julianday(expires_at) < julianday('now')"
    wait_until(lambda: cluster.rows(over) == [(1,)], "the token is over its time", describe=cluster.describe)
    assert "expired" in str(asyncio.run(use(cluster, JoinToken.parse(brief))))
    assert cluster.rows("SELECT count(*) FROM workers") == [(0,)]
    return text
