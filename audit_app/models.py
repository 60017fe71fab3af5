"""The append-only table `audit_log` and what keeps it honest. Its only writer is trail.py; triggers refuse change and removal."""

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


class AuditKeys(models.Model):
    """The one row with the trail's secrets, each sealed with a key of the secret key. keys.py is its only writer."""

    id = models.SmallIntegerField(primary_key=True)
    sealed_end = models.BinaryField(help_text="the last row, and the key that goes on from there")
    sealed_origin = models.BinaryField(help_text="the first key; empty once it was taken off the machine")
    sealed_signing_key = models.BinaryField(help_text="Ed25519, of checkpoints and tombstones")
    exported_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "audit_keys"

    def __str__(self) -> str:
        return "the trail's keys"


class AuditTombstone(models.Model):
    """Rows that were removed by right. pruning.py is its only writer; triggers refuse change and removal."""

    first_id = models.BigIntegerField(primary_key=True)
    last_id = models.BigIntegerField()
    row_count = models.BigIntegerField()
    head = models.CharField(max_length=64, help_text="hash of the last row removed")
    removed_by = models.CharField(max_length=150)
    removed_at = models.CharField(max_length=40, help_text="ISO 8601 in UTC, as it is signed")
    signature = models.CharField(max_length=128, help_text="Ed25519")

    class Meta:
        db_table = "audit_tombstones"
        ordering: ClassVar = ["first_id"]

    def __str__(self) -> str:
        return f"{self.first_id}-{self.last_id}"
