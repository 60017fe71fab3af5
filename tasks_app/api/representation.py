"""A task and an attempt as REST shows them."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from octaskly_wire.vocabulary import SandboxLevel
from tasks_app.models import File, Result, Task, TaskOutput


def _limit(least: int, most: int, help_text: str = "") -> serializers.IntegerField:
    return serializers.IntegerField(
        required=False, allow_null=True, min_value=least, max_value=most, help_text=help_text or None
    )


class LimitsSerializer(serializers.Serializer[Any]):
    """Resource limits; what is left out is the worker's default."""

    memory_mb = _limit(1, 1 << 24, "MiB")
    cpu_seconds = _limit(1, 86_400 * 366)
    processes = _limit(1, 1 << 20)
    open_files = _limit(8, 1 << 20)
    disk_mb = _limit(1, 1 << 24, "MiB")


@extend_schema_serializer(many=False)
class TaskRequestSerializer(serializers.Serializer[Any]):
    """A task as submitted. For the schema only: `submission.py` is what reads and checks."""

    command = serializers.CharField(help_text="for /bin/sh -c; 1 to 65,536 bytes")
    name = serializers.CharField(max_length=255, required=False, allow_blank=True)
    env = serializers.DictField(child=serializers.CharField(allow_blank=True), required=False)
    priority = serializers.IntegerField(min_value=-100, max_value=100, required=False, help_text="higher runs first")
    timeout = serializers.IntegerField(min_value=1, max_value=86_400, required=False, help_text="seconds")
    max_retries = serializers.IntegerField(min_value=0, max_value=10, required=False)
    sandbox = serializers.ChoiceField(
        choices=[level.value for level in SandboxLevel], required=False, allow_null=True, help_text="null: the default"
    )
    network = serializers.BooleanField(required=False)
    limits = LimitsSerializer(required=False)
    inputs = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="each the name of a file of yours, or `name=sha256:<hex>` for a content under that name",
    )
    outputs = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="names, or patterns with * ? [...], and ** for folders; each must come to a file",
    )


def task_document(task: Task) -> dict[str, Any]:
    """Return the JSON object of a task."""
    return {
        "id": task.id,
        "name": task.name,
        "command": task.command,
        "status": str(task.status),
        "worker_id": task.worker_id,
        "created_at": utc_text(task.created_at),
        "started_at": utc_text(task.started_at),
        "completed_at": utc_text(task.completed_at),
        "exit_code": task.exit_code,
        "stdout": task.stdout,
        "stderr": task.stderr,
        "stdout_truncated": task.stdout_truncated,
        "stderr_truncated": task.stderr_truncated,
        "duration_ms": task.duration_ms,
        "attempt": task.attempt,
        "failure_reason": task.failure_reason,
        "owner": task.owner.username,
        "env": task.env,
        "priority": task.priority,
        "timeout": task.timeout_s,
        "max_retries": task.max_retries,
        "sandbox": str(task.sandbox),
        "network": task.network,
        "limits": task.limits,
        "inputs": task.inputs,
        "outputs": task.outputs,
        "available_at": utc_text(task.available_at),
        "cancel_requested": task.cancel_requested_at is not None,
    }


class TaskSerializer(serializers.ModelSerializer[Task]):
    """A task as returned. The declared fields make the schema; the row is written out by hand, for speed."""

    timeout = serializers.IntegerField(source="timeout_s", help_text="seconds")
    owner = serializers.CharField(source="owner.username")
    env = serializers.DictField(child=serializers.CharField())
    limits = serializers.DictField(child=serializers.IntegerField())
    inputs = serializers.ListField(child=serializers.CharField())
    outputs = serializers.ListField(child=serializers.CharField())
    cancel_requested = serializers.BooleanField()

    class Meta:
        model = Task
        fields: ClassVar = [
            "id", "name", "command", "status", "worker_id", "created_at", "started_at", "completed_at", "exit_code",
            "stdout", "stderr", "stdout_truncated", "stderr_truncated", "duration_ms", "attempt", "failure_reason",
            "owner", "env", "priority", "timeout", "max_retries", "sandbox", "network", "limits", "inputs",
            "outputs", "available_at", "cancel_requested",
        ]  # fmt: skip
        read_only_fields = fields

    def to_representation(self, instance: Task) -> dict[str, Any]:
        """Return the task's JSON object."""
        return task_document(instance)


class SubmittedTaskSerializer(TaskSerializer):
    """A task in the answer to its submission, for the schema: the warnings are looked up for all at once."""

    warnings = serializers.ListField(
        child=serializers.CharField(), help_text="why nothing can run it as things stand; mostly empty"
    )

    class Meta(TaskSerializer.Meta):
        fields: ClassVar = [*TaskSerializer.Meta.fields, "warnings"]
        read_only_fields = fields


class AttemptSerializer(serializers.ModelSerializer[Result]):
    """One attempt of a task."""

    limits = serializers.DictField(child=serializers.CharField(), help_text="limit -> kernel or polled")

    class Meta:
        model = Result
        fields: ClassVar = [
            "attempt_id", "attempt", "worker_id", "state", "outcome", "failure_reason", "detail", "is_superseded",
            "exit_code", "signal", "duration_ms", "assigned_at", "started_at", "completed_at", "cpu_seconds",
            "max_rss_bytes", "spawn_seconds", "sandbox_level", "sandbox_backend", "limits", "stdout_bytes",
            "stderr_bytes", "stdout_truncated", "stderr_truncated",
        ]  # fmt: skip
        read_only_fields = fields


class FileSerializer(serializers.ModelSerializer[File]):
    """A file as returned."""

    size = serializers.IntegerField(source="blob.size_bytes", help_text="bytes")
    sha256 = serializers.CharField(source="blob_id")

    class Meta:
        model = File
        fields: ClassVar = ["name", "size", "sha256", "created_at"]
        read_only_fields = fields


class OutputSerializer(serializers.ModelSerializer[TaskOutput]):
    """A file that an attempt of a task left."""

    size = serializers.IntegerField(source="size_bytes", help_text="bytes")
    is_available = serializers.SerializerMethodField(help_text="false when the content has expired")
    attempt = serializers.IntegerField(source="result.attempt")

    class Meta:
        model = TaskOutput
        fields: ClassVar = ["name", "size", "sha256", "is_available", "attempt"]
        read_only_fields = fields

    def get_is_available(self, output: TaskOutput) -> bool:
        """Return whether the content can be read."""
        return output.blob_id is not None


class WaitingWorkerSerializer(serializers.Serializer[Any]):
    """Why one worker does not run the task."""

    worker_id = serializers.CharField()
    name = serializers.CharField()
    reason = serializers.CharField()
    is_lasting = serializers.BooleanField(help_text="waiting alone will not change it")


class WhySerializer(serializers.Serializer[Any]):
    """Why a task waits."""

    status = serializers.CharField()
    message = serializers.CharField()
    workers = WaitingWorkerSerializer(many=True)


@lru_cache(maxsize=64)  # Ten thousand tasks that came together have one time.
def utc_text(moment: datetime | None) -> str | None:
    """Return ISO 8601 in UTC with Z."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None
