"""Puts what tasks ask for into columns of their own, so that the queue can be searched for what fits a worker."""

from django.db import migrations, models

NAMES = ("memory_mb", "cpu_seconds", "processes", "open_files", "disk_mb")
CHUNK_ROWS = 500


def fill(apps, schema_editor):
    """Copy what the limits of tasks that are there say."""
    tasks = apps.get_model("tasks_app", "Task").objects.using(schema_editor.connection.alias)
    columns = [f"asked_{name}" for name in NAMES]
    chunk = []
    for task in tasks.exclude(limits={}).only("id", "limits").iterator(CHUNK_ROWS):
        for name in NAMES:
            setattr(task, f"asked_{name}", task.limits.get(name))
        chunk.append(task)
        if len(chunk) == CHUNK_ROWS:
            tasks.bulk_update(chunk, columns)
            chunk = []
    tasks.bulk_update(chunk, columns)


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0003_outcome_digest")]

    operations = [
        migrations.RemoveIndex(model_name="task", name="tasks_ready"),
        *(
            migrations.AddField(
                model_name="task",
                name=f"asked_{name}",
                # Null without a default: SQLite adds the column in place. A table made anew loses its trigger.
                field=models.PositiveIntegerField(blank=True, editable=False, null=True),
            )
            for name in NAMES
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
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
                condition=models.Q(("assigned_at", None), ("cancel_requested_at", None), ("status", "queued")),
                name="tasks_ready",
            ),
        ),
    ]
