"""Marks tasks that pause before they are tried again, and leaves them out of the index that the queue is read by."""

from django.db import migrations, models

MARK = "UPDATE tasks SET is_paused = 1 WHERE status = 'queued' AND assigned_at IS NULL AND attempt > 0"


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0010_lists_by_worker_and_name")]

    operations = [
        migrations.RemoveIndex(model_name="task", name="tasks_ready"),
        # Django would copy the whole table for this on SQLite, and lose its triggers with it.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField(
                    model_name="task",
                    name="is_paused",
                    field=models.BooleanField(db_default=False, default=False, editable=False),
                ),
            ],
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE tasks ADD COLUMN is_paused bool NOT NULL DEFAULT 0",
                    "ALTER TABLE tasks DROP COLUMN is_paused",
                ),
            ],
        ),
        # Whose pause is over already is put back by the first look at the queue.
        migrations.RunSQL(MARK, migrations.RunSQL.noop),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("sandbox"),
                models.F("network"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("id"),
                models.F("asked_memory_mb"),
                models.F("asked_cpu_seconds"),
                models.F("asked_processes"),
                models.F("asked_open_files"),
                models.F("asked_disk_mb"),
                models.F("timeout_s"),
                condition=models.Q(
                    ("assigned_at", None),
                    ("cancel_requested_at", None),
                    ("is_paused", False),
                    ("status", "queued"),
                ),
                name="tasks_ready",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(models.F("available_at"), condition=models.Q(("is_paused", True)), name="tasks_paused"),
        ),
    ]
