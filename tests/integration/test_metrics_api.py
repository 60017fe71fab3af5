"""`/metrics` and the series of REST: who may read them, and that what they say can be read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from rest_framework.test import APIClient

from accounts_app.roles import Role
from metrics_app.models import ClusterSample, WorkerSample
from octaskly_site.env import ConfigurationError, secret
from workers_app.models import Worker

pytestmark = pytest.mark.django_db

TOKEN = "a token of 26 characters.."
HOSTILE = 'x",evil="1"} 5\nocta_fake 1\\\r\u2028{'


def scraped(client: APIClient, **headers: str) -> dict[str, list]:
    """Return the samples of /metrics by family."""
    response = client.get("/metrics", **headers)
    assert response.status_code == 200, response.content
    return {family.name: family.samples for family in read_text(response.content.decode())}


def test_operators_may_scrape_with_their_own_tokens(client_of):
    """Others are refused with 403 and told nothing."""
    for role in (*Role, None):
        response = client_of(role).get("/metrics")
        is_operator = role in {Role.ADMIN, Role.DISPATCHER}
        assert response.status_code == (200 if is_operator else 403), role
        assert (b"octaskly_tasks" in response.content) == is_operator


def test_the_scrape_token_opens_metrics_and_nothing_else(settings):
    """A wrong one, an empty one or none is answered with 401, also while no token is set."""
    client = APIClient()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401
    settings.OCTASKLY_METRICS_TOKEN = TOKEN
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/metrics", headers=right).status_code == 200
    for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", "Bearer caf\u00e9", f"Basic {TOKEN}", TOKEN):
        response = client.get("/metrics", headers={"Authorization": wrong})
        assert response.status_code == 401, wrong
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert client.post("/metrics", headers=right).status_code == 405
    for path in ("/api/v1/stats", "/api/v1/stats/history", "/api/v1/tasks"):
        assert client.get(path, headers=right).status_code == 401, path


@pytest.mark.parametrize("value", ["fifteen letters", "sixteen letters\n", "caf\u00e9 caf\u00e9 caf\u00e9 caf\u00e9"])
def test_a_weak_scrape_token_is_refused_at_start(monkeypatch, value):
    """The error names the variable and not its value."""
    monkeypatch.setenv("OCTASKLY_METRICS_TOKEN", value)
    with pytest.raises(ConfigurationError, match="OCTASKLY_METRICS_TOKEN") as caught:
        secret("OCTASKLY_METRICS_TOKEN")
    assert value not in str(caught.value)


def test_a_hostile_name_stays_one_label(client_of):
    """Whatever a worker calls itself, both formats have as many samples as without it."""
    vitals = {
        "cpu_percent": 12.5, "memory_total_bytes": 100, "memory_available_bytes": 40, "disk_free_bytes": 7, "load_1m": 1,
    }  # fmt: skip
    common = {"created_at": datetime.now(UTC), "admission": "approved", "is_connected": True, "slots": 3}
    Worker.objects.create(id="w1", name=HOSTILE, public_key_sha256="1", vitals=vitals, **common)
    Worker.objects.create(id="w2", name="calm", public_key_sha256="2", **common)
    admin = client_of(Role.ADMIN)
    families = scraped(admin)
    assert "octa_fake" not in families
    cpu = families["octaskly_worker_cpu_percent"]
    assert [(sample.labels, sample.value) for sample in cpu] == [({"worker_id": "w1", "name": HOSTILE}, 12.5)]
    assert [sample.value for sample in families["octaskly_worker_memory_used_bytes"]] == [60]
    assert {sample.labels["state"]: sample.value for sample in families["octaskly_slots"]} == {"used": 0, "free": 6}
    assert {s.labels["status"]: s.value for s in families["octaskly_workers"]}["connected"] == 2
    assert families["octaskly_database_bytes"][0].value > 10_000
    assert "process_resident_memory_bytes" in families
    accepted = "application/openmetrics-text; version=1.0.0"
    response = admin.get("/metrics", headers={"Accept": accepted})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    names = {
        s.labels["name"] for f in read_openmetrics(response.content.decode()) for s in f.samples if "name" in s.labels
    }
    assert names == {HOSTILE, "calm"}
    # A browser is answered, too.
    assert admin.get("/metrics", headers={"Accept": "text/html"}).headers["Content-Type"].startswith("text/plain")


def test_hours_are_checked(client_of):
    """The refusal names the field."""
    admin = client_of(Role.ADMIN)
    Worker.objects.create(id="w1", public_key_sha256="1", created_at=datetime.now(UTC))
    for hours in ("0", "-1", "1.5", "x", "", "87601", "9" * 5000, "1e2", "\u00b2"):
        for path in ("/api/v1/stats/history", "/api/v1/workers/w1/vitals"):
            response = admin.get(path, {"hours": hours})
            assert response.status_code == 400, hours
            assert response.json()["errors"][0]["field"] == "hours"


def test_series_are_answered_to_operators(client_of):
    """Points as the documentation has them, oldest first; a worker that is not there is 404."""
    now = int(datetime.now(UTC).timestamp()) // 10 * 10
    Worker.objects.create(id="w1", public_key_sha256="1", created_at=datetime.now(UTC))
    for at in (now - 20, now - 10):
        WorkerSample.objects.create(step_s=10, at=at, worker_id="w1", cpu_percent=5, slots_used=1)
        ClusterSample.objects.create(
            step_s=10, at=at, queued=1, running=1, slots_used=1, slots_total=1, workers_connected=1, memory_mb=1,
            database_mb=1,
        )  # fmt: skip
    operator = client_of(Role.DISPATCHER)
    history = operator.get("/api/v1/stats/history").json()
    assert (history["step_s"], [point["at"] for point in history["points"]]) == (10, [now - 20, now - 10])
    vitals = operator.get("/api/v1/workers/w1/vitals/", {"hours": 2}).json()
    assert (vitals["step_s"], [point["cpu_percent"] for point in vitals["points"]]) == (10, [5, 5])
    assert operator.get("/api/v1/workers/w1/vitals", {"hours": 87_600}).json()["step_s"] > 300_000
    assert operator.get("/api/v1/workers/nobody/vitals").status_code == 404
