"""Every answer is one that the schema names, whoever asks for whatever."""

from __future__ import annotations

import pytest

from tests.fuzz.conftest import Furnished
from tests.support.api import Api
from tests.support.fuzzing import explore


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("who", "examples"), [("admin", 25), ("client", 10), ("nobody", 5)])
def test_every_answer_is_in_the_schema(furnished: Furnished, who: str, examples: int, summary: list[str]) -> None:
    """No made-up request is answered with an error of the server, or with what the schema does not name."""
    signed_in: dict[str, Api] = {"admin": furnished.admin, "client": furnished.client}
    headers = {"Authorization": signed_in[who].http.headers["Authorization"]} if who in signed_in else {}
    ended_task = furnished.ended_tasks.get(who, furnished.ended_tasks["admin"])
    seen = explore(
        furnished.document,
        furnished.cluster.url,
        headers,
        ended_task=ended_task,
        examples=examples,
        is_thorough=who != "nobody",
    )
    summary.append(f"{who}: {seen.head()}")
    assert not seen.findings, seen.told()
    assert not seen.errors, seen.told()
    # Whatever the schema names: a dispatcher that is well has no reason for any of them.
    assert not seen.operations_with(range(500, 600)), seen.told()
    if who == "admin":
        assert seen.operations_with(range(200, 300)) >= {label for label in seen.operations() if "GET" in label}
