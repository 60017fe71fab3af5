"""Limits on how often, as somebody outside meets them: over a kill of the dispatcher, at the WebSocket, in the client."""

from __future__ import annotations

import httpx
import pytest

from octaskly import Client
from tests.support.cluster import ADMIN_PASSWORD
from tests.support.events import events_reader

LOCKED = "too many failed sign-ins; try again later"
pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


def sign_in(cluster, password: str) -> httpx.Response:
    """Return the answer to a sign-in of the admin."""
    return httpx.post(
        f"{cluster.url}/api/v1/auth/token", json={"username": "admin", "password": password}, trust_env=False
    )


def test_limits_hold_at_every_door_and_over_a_kill(new_cluster):
    """A client that asked too often waits as it is told and gets through; who was locked out stays so over a kill."""
    cluster = new_cluster(OCTASKLY_MAX_REQUESTS_PER_S="1")
    cluster.start_dispatcher("--no-quic")
    api = cluster.api.http
    token = api.headers["Authorization"].partition(" ")[2]
    refused = next(answer for _ in range(50) if (answer := api.get("/api/v1/stats")).status_code != 200)
    assert (refused.status_code, refused.headers["Content-Type"]) == (429, "application/problem+json")
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    with events_reader(cluster.api) as reader:
        assert reader.next()["status"] == 429
    with Client(cluster.url, token) as client:
        assert client.stats()

    assert [sign_in(cluster, "wrong").status_code for _ in range(5)] == [401] * 5
    locked = sign_in(cluster, ADMIN_PASSWORD)
    assert (locked.status_code, locked.json()["detail"]) == (429, LOCKED)
    assert int(locked.headers["Retry-After"]) > 600
    cluster.dispatcher.kill()
    cluster.dispatcher.wait()
    cluster.start_dispatcher("--no-quic", wait=False)
    cluster.wait_healthy()
    assert sign_in(cluster, ADMIN_PASSWORD).json()["detail"] == LOCKED
