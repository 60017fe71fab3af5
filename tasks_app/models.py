"""Tables of what was asked and what came of it: tasks, their results, their files, remembered idempotency keys."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.urls import reverse

from octaskly_wire.vocabulary import FailureReason, SandboxLevel


class TaskStatus(models.TextChoices):
    """The public states of a task; `transitions.py` says which step may follow which."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AttemptState(models.TextChoices):
    """How far one execution has come."""

    ASSIGNED = "assigned"
    RUNNING = "running"
    ENDED = "ended"


class AttemptOutcome(models.TextChoices):
    """How an ended attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    REJECTED = "rejected"


SANDBOX_CHOICES = [(level.value, level.value) for level in SandboxLevel]
FAILURE_CHOICES = [(reason.value, reason.value) for reason in FailureReason]


class Task(models.Model):
    """One command somebody asked for, with the outcome of its latest attempt.

    `id` grows with time, so that (priority descending, id) is the order of the queue. A task whose
    `assigned_at` is set has a live attempt: number `attempt`, on worker `worker_id`.
    """

    id = models.CharField(primary_key=True, max_length=36, editable=False)
    command = models.TextField()
    name = models.CharField(max_length=255, blank=True, default="")
    status = models.CharField(max_length=10, choices=TaskStatus.choices, default=TaskStatus.QUEUED)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    priority = models.SmallIntegerField(default=0)
    timeout_s = models.PositiveIntegerField(default=3600, help_text="seconds")
    max_retries = models.PositiveSmallIntegerField(default=0)
    sandbox = models.CharField(max_length=12, choices=SANDBOX_CHOICES)
    network = models.BooleanField(default=False)
    env = models.JSONField(default=dict, blank=True)
    inputs = models.JSONField(default=list, blank=True)
    outputs = models.JSONField(default=list, blank=True)
    limits = models.JSONField(default=dict, blank=True)

    # What `limits` asks for, once more where the queue can be searched by it; null asks for nothing.
    asked_memory_mb = models.PositiveIntegerField(null=True, blank=True, editable=False)
    asked_cpu_seconds = models.PositiveIntegerField(null=True, blank=True, editable=False)
    asked_processes = models.PositiveIntegerField(null=True, blank=True, editable=False)
    asked_open_files = models.PositiveIntegerField(null=True, blank=True, editable=False)
    asked_disk_mb = models.PositiveIntegerField(null=True, blank=True, editable=False)

    worker_id = models.CharField(max_length=36, null=True, blank=True)
    attempt = models.PositiveIntegerField(default=0, help_text="number of the latest attempt, 0 before the first")
    failures = models.PositiveSmallIntegerField(default=0, help_text="attempts that ended by the command's own fault")
    losses = models.PositiveSmallIntegerField(default=0, help_text="attempts that ended because their worker was lost")
    created_at = models.DateTimeField()
    available_at = models.DateTimeField(help_text="not given to a worker before this time")
    # Set while that time lies ahead, so that the queue's index is without those that nobody may take yet.
    is_paused = models.BooleanField(default=False, db_default=False, editable=False)
    assigned_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    exit_code = models.IntegerField(null=True, blank=True)
    duration_ms = models.BigIntegerField(null=True, blank=True)
    failure_reason = models.CharField(max_length=20, choices=FAILURE_CHOICES, null=True, blank=True)
    stdout = models.TextField(blank=True, default="", help_text="first and last 32 KiB")
    stderr = models.TextField(blank=True, default="", help_text="first and last 32 KiB")
    stdout_truncated = models.BooleanField(default=False)
    stderr_truncated = models.BooleanField(default=False)

    class Meta:
        db_table = "tasks"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(
                "sandbox",
                "network",
                models.F("priority").desc(),
                "id",
                # So that what no free worker can run is passed over without a look at its row.
                "asked_memory_mb",
                "asked_cpu_seconds",
                "asked_processes",
                "asked_open_files",
                "asked_disk_mb",
                "timeout_s",
                condition=models.Q(status="queued", assigned_at=None, cancel_requested_at=None, is_paused=False),
                name="tasks_ready",
            ),
            models.Index("available_at", condition=models.Q(is_paused=True), name="tasks_paused"),
            models.Index("worker_id", "id", condition=models.Q(assigned_at__isnull=False), name="tasks_live"),
            # For lists only. Who reads live attempts does not state the condition, and so gets the index above.
            models.Index("worker_id", "id", condition=models.Q(worker_id__gt=""), name="tasks_worker"),
            models.Index("name", "id", condition=models.Q(name__gt=""), name="tasks_name"),
            models.Index("status", "id", name="tasks_status"),
            models.Index("owner", "status", "id", name="tasks_owner"),
            # A user's own list, newest first: by any other index SQLite would sort all of it for each page.
            models.Index("owner", "id", name="tasks_owner_newest"),
            models.Index("priority", "id", name="tasks_priority"),
        ]

    def __str__(self) -> str:
        return self.name or self.id

    def get_absolute_url(self) -> str:
        """Return the address of the task's page."""
        return reverse("task-page", args=[self.id])


class TaskCount(models.Model):
    """How many tasks of an owner are in each status. Triggers of the database write these rows; `counts.py` reads them."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="+")
    queued = models.BigIntegerField(default=0)
    running = models.BigIntegerField(default=0)
    completed = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    cancelled = models.BigIntegerField(default=0)

    class Meta:
        db_table = "task_counts"

    def __str__(self) -> str:
        return f"tasks of {self.owner_id}"


class Result(models.Model):
    """One attempt of a task and how it ended. The engine owns these rows."""

    attempt_id = models.CharField(primary_key=True, max_length=48, help_text="task id, dot, attempt number")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="results", db_index=False)
    attempt = models.PositiveIntegerField()
    worker_id = models.CharField(max_length=36)
    state = models.CharField(max_length=10, choices=AttemptState.choices, default=AttemptState.ASSIGNED)
    outcome = models.CharField(max_length=10, choices=AttemptOutcome.choices, null=True, blank=True)
    failure_reason = models.CharField(max_length=20, choices=FAILURE_CHOICES, null=True, blank=True)
    detail = models.TextField(blank=True, default="")
    is_superseded = models.BooleanField(default=False, help_text="a late outcome came after the attempt was given up")
    exit_code = models.IntegerField(null=True, blank=True)
    signal = models.IntegerField(null=True, blank=True)
    duration_ms = models.BigIntegerField(null=True, blank=True)
    assigned_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    cpu_seconds = models.FloatField(null=True, blank=True)
    max_rss_bytes = models.BigIntegerField(null=True, blank=True)
    spawn_seconds = models.FloatField(
        null=True, blank=True, help_text="from asking the sandbox for the command to its start"
    )
    sandbox_level = models.CharField(max_length=12, choices=SANDBOX_CHOICES, blank=True, default="")
    sandbox_backend = models.CharField(max_length=64, blank=True, default="")
    limits = models.JSONField(default=dict, blank=True, help_text="limit -> kernel or polled")
    stdout_bytes = models.BigIntegerField(default=0, help_text="all the command wrote")
    stderr_bytes = models.BigIntegerField(default=0, help_text="all the command wrote")
    stdout_truncated = models.BooleanField(default=False)
    stderr_truncated = models.BooleanField(default=False)
    # Last, so that reading the columns above does not walk the overflow pages of these.
    stdout = models.BinaryField(default=b"")
    stderr = models.BinaryField(default=b"")
    outcome_sha256 = models.CharField(
        max_length=64, blank=True, default="", help_text="digest of the outcome as its worker told it, empty before"
    )

    class Meta:
        db_table = "results"
        ordering: ClassVar = ["task_id", "attempt"]
        constraints: ClassVar = [models.UniqueConstraint("task", "attempt", name="results_once")]
        indexes: ClassVar = [models.Index("worker_id", "assigned_at", name="results_worker")]

    def __str__(self) -> str:
        return self.attempt_id


class Blob(models.Model):
    """A content that lies in the blob store, once, whoever named it. `blob_store.py` says where."""

    sha256 = models.CharField(primary_key=True, max_length=64, help_text="lower-case hex")
    size_bytes = models.BigIntegerField()
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(db_index=True, help_text="last stored or named; unreferenced ones expire by it")

    class Meta:
        db_table = "blobs"

    def __str__(self) -> str:
        return self.sha256


class File(models.Model):
    """A name that a user gave a content. Named `sha256:` and the digest it is a bare upload, which expires."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=1024)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="files")
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(help_text="last uploaded or named by a task")

    class Meta:
        db_table = "files"
        ordering: ClassVar = ["owner_id", "name"]
        constraints: ClassVar = [models.UniqueConstraint("owner", "name", name="files_once")]

    def __str__(self) -> str:
        return self.name


class TaskInput(models.Model):
    """A file that a task's commands find in their workspace, with the content it had when the task was submitted."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="input_files", db_index=False)
    name = models.CharField(max_length=1024)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="task_inputs", null=True)

    class Meta:
        db_table = "task_inputs"
        ordering: ClassVar = ["task_id", "id"]
        constraints: ClassVar = [models.UniqueConstraint("task", "name", name="task_inputs_once")]

    def __str__(self) -> str:
        return self.name


class OutputKind(models.TextChoices):
    """What a stored content of an attempt is: a declared output, or a stream too long for the attempt's own row."""

    FILE = "file"
    STDOUT = "stdout"
    STDERR = "stderr"


class TaskOutput(models.Model):
    """A file that an attempt left, or a long output stream. The content expires before the row: then `blob` is null."""

    result = models.ForeignKey(Result, on_delete=models.CASCADE, related_name="output_files", db_index=False)
    kind = models.CharField(max_length=6, choices=OutputKind.choices, default=OutputKind.FILE)
    name = models.CharField(max_length=1024)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="task_outputs", null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "task_outputs"
        ordering: ClassVar = ["result_id", "kind", "name"]
        constraints: ClassVar = [models.UniqueConstraint("result", "kind", "name", name="task_outputs_once")]
        indexes: ClassVar = [
            # Rows outlive their contents: what expires next is found without a walk over all that did long ago.
            models.Index("created_at", condition=models.Q(blob__isnull=False), name="task_outputs_kept"),
        ]

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """A client's promise that a repeated POST is the same request; remembered for 24 hours."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    body_sha256 = models.CharField(max_length=64)
    task_ids = models.JSONField()
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "idempotency_keys"
        constraints: ClassVar = [models.UniqueConstraint("owner", "key", name="idempotency_once")]

    def __str__(self) -> str:
        return self.key
