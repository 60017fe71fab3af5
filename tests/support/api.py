"""A client as anybody would write one: JSON over HTTP, tokens from the login route."""

from __future__ import annotations

from typing import Any

import httpx

ENDED = frozenset({"completed", "failed", "cancelled"})


class Api:
    """The REST interface for one signed-in user."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30.0, trust_env=False)
        self.refresh_token = ""

    def close(self) -> None:
        self.http.close()

    def login(self, username: str, password: str) -> Api:
        """Sign in; later requests carry the access token."""
        answer = self.http.post("/api/v1/auth/token", json={"username": username, "password": password})
        assert answer.status_code == 200, f"login of {username}: {answer.status_code} {answer.text}"
        tokens = answer.json()
        self.refresh_token = tokens["refresh"]
        self.http.headers["Authorization"] = f"Bearer {tokens['access']}"
        return self

    def get(self, path: str, **params: Any) -> Any:
        """Return the decoded answer of a GET that must succeed."""
        return self._checked(self.http.get(f"/api/v1/{path}", params=params))

    def post(self, path: str, body: Any = None) -> Any:
        """Return the decoded answer of a POST that must succeed."""
        return self._checked(self.http.post(f"/api/v1/{path}", json={} if body is None else body))

    def submit(self, command: str, **fields: Any) -> str:
        """Submit one task and return its id."""
        return self.post("tasks", {"command": command, **fields})["id"]

    def task(self, task_id: str) -> dict[str, Any]:
        return self.get(f"tasks/{task_id}")

    def attempts(self, task_id: str) -> list[dict[str, Any]]:
        return self.get(f"tasks/{task_id}/attempts")["results"]

    def workers(self) -> list[dict[str, Any]]:
        return self.get("workers")["results"]

    def worker_named(self, name: str) -> dict[str, Any]:
        found = [worker for worker in self.workers() if worker["name"] == name]
        assert found, f"no worker {name} among {[worker['name'] for worker in self.workers()]}"
        return found[0]

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None
