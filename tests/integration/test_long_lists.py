"""The list of tasks along its indexes: what a page costs does not grow with what there is."""

from __future__ import annotations

import pytest
from django.http import QueryDict

from accounts_app.roles import Role
from tasks_app import selectors, services
from tasks_app.api.filters import TaskFilter
from tasks_app.submission import TaskSpec

pytestmark = pytest.mark.django_db


def plan_of(user, query: str) -> list[str]:
    """Return what SQLite says that it does with the tasks for a page of REST's list."""
    filters = TaskFilter(QueryDict(query), selectors.visible_to(user))
    assert not filters.errors
    steps = filters.qs.order_by("-id")[:101].explain().splitlines()
    return [step for step in steps if "tasks" in step or "TEMP" in step]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "SCAN tasks USING INDEX sqlite_autoindex_tasks_1"),
        ("status=failed", "SEARCH tasks USING INDEX tasks_status (status=?)"),
        ("name=x", "SEARCH tasks USING INDEX tasks_name (name=?)"),
        ("name=x&status=failed", "SEARCH tasks USING INDEX tasks_name (name=?)"),
        ("name=x&owner=alice", "SEARCH tasks USING INDEX tasks_name (name=?)"),
        ("name=x&worker_id=w", "SEARCH tasks USING INDEX tasks_name (name=?)"),
        ("worker_id=w", "SEARCH tasks USING INDEX tasks_worker (worker_id=?)"),
        ("worker_id=w&status=failed", "SEARCH tasks USING INDEX tasks_worker (worker_id=?)"),
        ("worker_id=w&status=running", "SEARCH tasks USING INDEX tasks_status (status=?)"),
        ("owner=alice", "SEARCH tasks USING INDEX tasks_owner_newest (owner_id=?)"),
        ("owner=alice&status=failed", "SEARCH tasks USING INDEX tasks_owner (owner_id=? AND status=?)"),
        ("created_after=2026-01-01T00:00:00Z", "SEARCH tasks USING INDEX sqlite_autoindex_tasks_1 (id>?)"),
        ("created_before=2026-01-01T00:00:00Z", "SEARCH tasks USING INDEX sqlite_autoindex_tasks_1 (id<?)"),
        (
            "created_after=2026-01-01T00:00:00Z&worker_id=w",
            "SEARCH tasks USING INDEX tasks_worker (worker_id=? AND id>?)",
        ),
    ],
)
def test_each_filter_has_an_index_in_the_order_of_the_list(user_of, query, index):
    """Operators' lists begin at the first row that they show, and nothing is sorted."""
    user_of(Role.CLIENT, "alice")
    [step] = plan_of(user_of(Role.ADMIN), query)
    assert index in step


def test_a_clients_list_is_looked_up_by_owner_or_name(user_of):
    """Its own tasks in their order, by status if asked, or those with a name."""
    client = user_of(Role.CLIENT, "alice")
    for query, index in {"": "tasks_owner_newest", "status=failed": "tasks_owner", "name=x": "tasks_name"}.items():
        [step] = plan_of(client, query)
        assert f"INDEX {index} (" in step


def test_any_moment_can_be_asked_for(user_of):
    """The first and the last that there are stand before and after all ids."""
    alice = user_of(Role.CLIENT, "alice")
    [task] = services.submit(alice, [TaskSpec(command="true")])
    for query, found in {
        "created_after=0001-01-01T00:00:00Z": [task.id],
        "created_before=0001-01-01T00:00:00Z": [],
        "created_after=9999-12-31T23:59:59Z": [],
        "created_before=9999-12-31T23:59:59Z": [task.id],
    }.items():
        filters = TaskFilter(QueryDict(query), selectors.visible_to(alice))
        assert [one.id for one in filters.qs] == found, query
