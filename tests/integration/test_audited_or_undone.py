"""No state changes without its row in the audit: where the row cannot be written, nothing else is."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, connection

from accounts_app.bootstrap import ensure_first_admin
from accounts_app.roles import Role
from audit_app import checkpoints, export, pruning
from audit_app.models import AuditEntry
from audit_app.verifying import key_here, verify
from dispatcher.ports import (
    AttemptKey,
    ClaimTask,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    SuspendWorker,
    WorkerConnected,
    WorkerDisconnected,
    WorkerDrainStarted,
    WorkerPaused,
)
from octaskly_wire import identity
from octaskly_wire.join_token import JoinToken as TokenText
from octaskly_wire.messages import CapturedOutput, OutcomeReport, Register
from octaskly_wire.vocabulary import Enforcement, SandboxLevel
from tasks_app import file_services, retention, staged_inputs
from tasks_app import services as task_services
from tasks_app.asked_files import DIGEST_PREFIX
from tasks_app.blob_store import store as blob_store
from tasks_app.dispatch_store import DispatchStore
from tasks_app.models import File, Task
from tasks_app.submission import TaskSpec
from tests.support.messages import FROM_WORKER
from workers_app import certificates, rotation
from workers_app import services as worker_services
from workers_app.models import Worker

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("accounts_app", "audit_app", "dashboard_app", "metrics_app", "octaskly_site", "tasks_app", "workers_app")
NOT_STATE = {"audit_log", "audit_keys", "sqlite_sequence"}
KEY = identity.new_key()
Step = Callable[[], Any]


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Scene:
    """A cluster with a worker, a user and tasks in several states."""

    def __init__(self, user: Any, folder: Path) -> None:
        self.user = user
        self.folder = folder
        self.blobs = blob_store()
        self.store = DispatchStore(self.blobs)
        token = TokenText.parse(self.new_token())
        self.token = token
        self.worker = Worker.objects.get(id=self.enrol().worker_id)

    def new_token(self) -> str:
        """Make a join token."""
        return worker_services.create_join_token(uses=5, ttl_s=60, auto_approve=True, actor=None)

    def enrol(self, key: Any = KEY) -> Any:
        """Use the join token."""
        return worker_services.enrol(
            token_id=self.token.token_id, secret=self.token.secret, name="pc-07", address="10.0.0.7", now=now(),
            certificate_request=identity.make_certificate_request(key),
        )  # fmt: skip

    def submit(self, **fields: Any) -> Task:
        """Submit a task."""
        [task] = task_services.submit(self.user, [TaskSpec(command="true", **fields)])
        return task

    def upload(self, name: str = "a") -> Any:
        """Upload a file."""
        file, _ = file_services.upload(self.user, name, io.BytesIO(name.encode()), len(name))
        return file

    def at_attempt(self, *records: type) -> tuple[AttemptKey, str]:
        """Return a task's attempt that has come so far."""
        key = AttemptKey(self.submit().id, 1)
        for record in records:
            self.store.commit([record(key, self.worker.id)])
        return key, self.worker.id


def ended(reason: Any = None) -> OutcomeReport:
    """Return an outcome."""
    return OutcomeReport(
        failure_reason=reason, exit_code=0, duration_ms=7, sandbox=SandboxLevel.BASIC, backend="spawner",
        cpu_seconds=0.5, max_rss_bytes=1000, limits={"memory": Enforcement.KERNEL},
        stdout=CapturedOutput(total_bytes=0, kept_bytes=0, data=b""),
    )  # fmt: skip


def _committing(make: Callable[[Scene], Any]) -> Callable[[Scene], Step]:
    def prepare(scene: Scene) -> Step:
        item = make(scene)
        return lambda: scene.store.commit([item])

    return prepare


def _drained(scene: Scene) -> Step:
    worker_services.drain(scene.worker, scene.user)
    return lambda: worker_services.resume(scene.worker, scene.user)


def _expired_input(scene: Scene) -> Step:
    task = scene.submit()
    return lambda: staged_inputs.fail_expired({task.id: "a"}, now())


def _retried(scene: Scene) -> Step:
    task = task_services.cancel(scene.submit(), scene.user)
    return lambda: task_services.retry(task, scene.user)


def _cancelled_live(scene: Scene) -> Step:
    key, _ = scene.at_attempt(ClaimTask, RecordStarted)
    return lambda: task_services.cancel(Task.objects.get(id=key.task_id), scene.user)


def _cancelled(scene: Scene) -> Step:
    task = scene.submit()
    return lambda: task_services.cancel(task, scene.user)


def _deleted(scene: Scene) -> Step:
    file = scene.upload()
    return lambda: file_services.delete(File.objects.get(pk=file.pk), scene.user)


def _old_upload(scene: Scene) -> Step:
    name = f"{DIGEST_PREFIX}{sha256(b'a').hexdigest()}"
    file_services.upload(scene.user, name, io.BytesIO(b"a"), 1)
    later = now() + timedelta(days=3)
    return lambda: retention.expire(later, scene.blobs, keep_outputs_days=0, keep_uploads_days=1)


def _forgotten_upload(scene: Scene) -> Step:
    file = scene.upload()
    file_services.delete(file, scene.user)
    later = now() + timedelta(days=3)
    return lambda: retention.expire(later, scene.blobs, keep_outputs_days=0, keep_uploads_days=0)


def _pruned(scene: Scene) -> Step:
    taken = checkpoints.take(scene.folder / "checkpoints.jsonl", now())
    key = key_here()
    assert taken is not None
    assert key is not None
    rows = pruning.find_range(now() + timedelta(days=1), scene.folder / "checkpoints.jsonl", key)
    report = verify()
    return lambda: pruning.prune(rows, report, "operator", now())


def _rotated(scene: Scene) -> Step:
    rotation.begin(scene.user, now())
    return lambda: rotation.finish(scene.user, now())


def _renewed(scene: Scene) -> Step:
    Worker.objects.update(certificate_expires_at=now() + timedelta(days=1))
    request = identity.make_certificate_request(KEY)
    return lambda: certificates.renew(scene.worker.id, request, now())


def _first_admin(scene: Scene) -> Step:
    Task.objects.all().delete()
    get_user_model().objects.all().delete()
    return lambda: ensure_first_admin("a password of the tests")


def _superseded(scene: Scene) -> Step:
    key, worker_id = scene.at_attempt(ClaimTask)
    scene.store.commit([RecordGivenUp(key, worker_id, True, "silent", 0.0)])
    return lambda: scene.store.commit([RecordSuperseded(key, worker_id, ended(), b"late", b"")])


def _disconnected(scene: Scene) -> Step:
    Worker.objects.update(is_connected=True)
    return lambda: scene.store.commit([WorkerDisconnected(scene.worker.id, "gone")])


STEPS: dict[str, Callable[[Scene], Step]] = {
    "submit": lambda scene: scene.submit,
    "cancel": _cancelled,
    "cancel a live one": _cancelled_live,
    "retry": _retried,
    "a lost input": _expired_input,
    "upload": lambda scene: scene.upload,
    "delete a file": _deleted,
    "expire a name": _old_upload,
    "expire a content": _forgotten_upload,
    "join token": lambda scene: scene.new_token,
    "enrol": lambda scene: lambda: scene.enrol(identity.new_key()),
    "suspend": lambda scene: lambda: worker_services.suspend(scene.worker, scene.user),
    "revoke": lambda scene: lambda: worker_services.revoke(scene.worker, scene.user, "gone"),
    "drain": lambda scene: lambda: worker_services.drain(scene.worker, scene.user),
    "resume": _drained,
    "renew": _renewed,
    "begin a rotation": lambda scene: lambda: rotation.begin(scene.user, now()),
    "finish a rotation": _rotated,
    "first admin": _first_admin,
    "prune": _pruned,
    "started": _committing(lambda scene: RecordStarted(*scene.at_attempt(ClaimTask))),
    "finished": _committing(lambda scene: RecordOutcome(*scene.at_attempt(ClaimTask), ended(), b"", b"", None)),
    "given up": _committing(lambda scene: RecordGivenUp(*scene.at_attempt(ClaimTask), True, "silent", 0.0)),
    "superseded": _superseded,
    "suspended by the engine": _committing(lambda scene: SuspendWorker(scene.worker.id, "five failures")),
    "connected": _committing(
        lambda scene: WorkerConnected(
            scene.worker.id, "b", "10.0.0.7", "tcp", "1", next(one for one in FROM_WORKER if isinstance(one, Register))
        )
    ),
    "disconnected": _disconnected,
    "draining": _committing(lambda scene: WorkerDrainStarted(scene.worker.id)),
    "paused": _committing(lambda scene: WorkerPaused(scene.worker.id, "disk")),
}


WRITES_ONLY_THE_ROW = {
    "audit_app/checkpoints.py:examine",
    "audit_app/export.py:begin",
    "audit_app/receivers.py:_write",
    "workers_app/certificates.py:issue_leaf",
}
"""The event is the row itself: nothing else changes, or what does was announced from within its transaction."""
ELSEWHERE = {"audit_app/management/commands/auditkey.py:_export", "octaskly_site/key_rotation.py:_wrap_anew"}
"""Whole commands, with tests of their own."""
COVERED = {
    "audit_app/pruning.py:prune", "tasks_app/dispatch_store.py:_commit", "tasks_app/file_services.py:delete",
    "tasks_app/file_services.py:upload", "tasks_app/retention.py:_in_transaction",
    "tasks_app/retention.py:_remove_contents", "tasks_app/services.py:cancel_many", "tasks_app/services.py:retry_many",
    "tasks_app/services.py:submit", "tasks_app/staged_inputs.py:fail_expired", "workers_app/certificates.py:_issue",
    "workers_app/certificates.py:renew", "workers_app/enrolment.py:create_join_token", "workers_app/enrolment.py:enrol",
    "workers_app/rotation.py:_drop_old", "workers_app/rotation.py:begin", "workers_app/services.py:_recorded",
}  # fmt: skip


@pytest.fixture
def scene(user_of: Any, settings: Any, tmp_path: Path) -> Scene:
    """A scene with a folder of its own for contents."""
    settings.DB_PATH = tmp_path / "octaskly.db"
    return Scene(user_of(Role.ADMIN, "anna"), tmp_path)


def state() -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables but the audit's own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = sorted({name for (name,) in cursor.fetchall()} - NOT_STATE)
        found = {}
        for name in names:
            cursor.execute(f'SELECT * FROM "{name}"')
            found[name] = sorted(map(repr, cursor.fetchall()))
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_change_that_cannot_be_recorded_does_not_happen(scene: Scene, step: str) -> None:
    """With rows, the step changes something and is recorded; without, it fails and leaves everything as it was."""
    act = STEPS[step](scene)
    before, rows_before = state(), AuditEntry.objects.count()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TRIGGER no_rows BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'no rows'); END")
    with pytest.raises(DatabaseError, match="no rows"):
        act()
    after = state()
    if step == "upload":
        # A content that nobody names is nothing yet, and goes again by itself.
        after["blobs"] = before["blobs"]
    assert after == before
    assert AuditEntry.objects.count() == rows_before
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER no_rows")
    act()
    assert state() != before
    assert AuditEntry.objects.latest("id").id > rows_before


def recording_functions() -> Iterator[str]:
    """Yield each function of the product that writes rows."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            for node in ast.walk(ast.parse(text if "record(" in text else "")):
                if isinstance(node, ast.FunctionDef) and any(
                    isinstance(part, ast.Call) and getattr(part.func, "id", "") == "record" for part in ast.walk(node)
                ):
                    yield f"{path.relative_to(ROOT)}:{node.name}"


def test_every_function_that_records_is_tried() -> None:
    """A new one needs a step above, or a reason why it changes nothing else."""
    assert set(recording_functions()) == COVERED | WRITES_ONLY_THE_ROW | ELSEWHERE


def test_taking_the_trail_out_begins_with_its_row(scene: Scene) -> None:
    """An export that cannot be recorded gives no document."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TRIGGER no_rows BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'no rows'); END")
    with pytest.raises(DatabaseError, match="no rows"):
        export.begin("anna", "csv", {})
    with pytest.raises(DatabaseError, match="no rows"):
        call_command("auditkey", "--export", str(scene.folder / "key"))
    assert not (scene.folder / "key").exists()
