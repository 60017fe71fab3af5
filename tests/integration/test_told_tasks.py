"""What a submission tells the engine of its tasks is what the engine would read of them."""

from __future__ import annotations

import pytest

from octaskly_wire.vocabulary import SandboxLevel
from tasks_app import services, signals
from tasks_app.dispatch_store import DispatchStore
from tasks_app.new_tasks import MAX_TOLD
from tasks_app.submission import LimitsSpec, TaskSpec
from tests.support.hearing import hearing

pytestmark = pytest.mark.django_db

BASIC = (SandboxLevel.BASIC, False)


@pytest.fixture
def told():
    """Return a list that gets the tasks of each announcement."""
    with hearing(signals.tasks_submitted, "tasks") as heard:
        yield heard


@pytest.fixture
def owner(django_user_model):
    """Return somebody who submits."""
    return django_user_model.objects.create_user("owner")


def test_told_and_read_tasks_are_the_same(told, owner, django_capture_on_commit_callbacks):
    """With all that a task may ask for."""
    rich = TaskSpec(
        command="make", sandbox=SandboxLevel.BASIC, priority=7, timeout=60, max_retries=2, env={"A": "b"},
        limits=LimitsSpec(memory_mb=64, disk_mb=10), outputs=("out/*",),
    )  # fmt: skip
    with django_capture_on_commit_callbacks(execute=True):
        services.submit(owner, [rich, TaskSpec(command="true", sandbox=SandboxLevel.BASIC)])
    assert told == [DispatchStore(None).fetch_ready([BASIC], 10)]


def test_of_many_tasks_none_is_told(told, owner, django_capture_on_commit_callbacks):
    """The engine takes no more than the head of the queue, whatever came."""
    with django_capture_on_commit_callbacks(execute=True):
        services.submit(owner, [TaskSpec(command="true", sandbox=SandboxLevel.BASIC)] * (MAX_TOLD + 1))
    assert told == [[]]
