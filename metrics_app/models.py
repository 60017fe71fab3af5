"""Tables of what was measured over time: bounded, since old rows give way to means and then go (`steps.py`)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Sample(models.Model):
    """One step of a series. `at` is where the step ends; a step in which nothing was measured has no row."""

    step_s = models.PositiveIntegerField(help_text="length of the step in seconds: as sampled, or of the means")
    at = models.BigIntegerField(help_text="end of the step in Unix seconds, a multiple of its length")
    samples = models.PositiveIntegerField(default=1, help_text="how many samples the means stand for")

    class Meta:
        abstract = True


class WorkerSample(Sample):
    """The load of one worker's machine in one step, while it was connected; what it had not told is null."""

    worker_id = models.CharField(max_length=36)
    cpu_percent = models.FloatField(null=True)
    cpu_percent_max = models.FloatField(null=True)
    memory_used_bytes = models.FloatField(null=True)
    memory_used_bytes_max = models.FloatField(null=True)
    disk_free_bytes = models.FloatField(null=True)
    load_1m = models.FloatField(null=True)
    slots_used = models.FloatField()
    round_trip_ms = models.FloatField(null=True)

    class Meta:
        db_table = "worker_samples"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["worker_id", "step_s", "at"], name="worker_samples_once")
        ]
        indexes: ClassVar = [models.Index(fields=["step_s", "at"], name="worker_samples_age")]

    def __str__(self) -> str:
        return f"{self.worker_id} {self.at}"


class ClusterSample(Sample):
    """The whole cluster in one step: means of what stands, sums of what happened."""

    queued = models.FloatField()
    running = models.FloatField()
    slots_used = models.FloatField()
    slots_total = models.FloatField()
    workers_connected = models.FloatField()
    cpu_percent = models.FloatField(null=True, help_text="of the dispatcher's machine")
    memory_mb = models.FloatField(help_text="of the dispatcher's process")
    database_mb = models.FloatField()
    completed = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    cancelled = models.PositiveBigIntegerField(default=0)
    # Sums and counts, so that the mean over any number of steps weighs each commit and each start alike.
    commits = models.PositiveBigIntegerField(default=0)
    commit_seconds = models.FloatField(default=0)
    starts = models.PositiveBigIntegerField(default=0)
    queue_wait_seconds = models.FloatField(default=0)

    class Meta:
        db_table = "cluster_samples"
        constraints: ClassVar = [models.UniqueConstraint(fields=["step_s", "at"], name="cluster_samples_once")]

    def __str__(self) -> str:
        return str(self.at)
