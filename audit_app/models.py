"""The append-only table `audit_log`. Its only writer is trail.py; triggers refuse change and removal."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditEntry(models.Model):
    """One thing that happened, bound to the one before by `previous_hash`."""

    id = models.BigIntegerField(primary_key=True)
    timestamp = models.DateTimeField(db_index=True)
    event_type = models.CharField(max_length=40)
    actor = models.CharField(max_length=150, blank=True)
    worker_id = models.CharField(max_length=36, blank=True)
    task_id = models.CharField(max_length=36, blank=True)
    details = models.TextField(help_text="JSON")
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        db_table = "audit_log"
        ordering: ClassVar = ["-id"]
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [
            models.Index("event_type", "id", name="audit_event"),
            models.Index("task_id", "id", name="audit_task", condition=~models.Q(task_id="")),
            models.Index("worker_id", "id", name="audit_worker", condition=~models.Q(worker_id="")),
            models.Index("actor", "id", name="audit_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.event_type}"
