"""Lets the database count the tasks of each owner and status, so that nobody has to walk over them for it."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FILL = """
    INSERT INTO task_counts (owner_id, queued, running, completed, failed, cancelled)
    SELECT owner_id, SUM(status = 'queued'), SUM(status = 'running'), SUM(status = 'completed'),
        SUM(status = 'failed'), SUM(status = 'cancelled')
    FROM tasks GROUP BY owner_id
"""
TRIGGERS = {
    "task_counts_insert": """
CREATE TRIGGER task_counts_insert AFTER INSERT ON tasks BEGIN
    INSERT INTO task_counts (owner_id, queued, running, completed, failed, cancelled)
    VALUES (NEW.owner_id, NEW.status = 'queued', NEW.status = 'running', NEW.status = 'completed',
        NEW.status = 'failed', NEW.status = 'cancelled')
    ON CONFLICT (owner_id) DO UPDATE SET
        queued = queued + excluded.queued,
        running = running + excluded.running,
        completed = completed + excluded.completed,
        failed = failed + excluded.failed,
        cancelled = cancelled + excluded.cancelled;
END""",
    "task_counts_step": """
CREATE TRIGGER task_counts_step AFTER UPDATE OF status ON tasks WHEN OLD.status <> NEW.status BEGIN
    UPDATE task_counts SET
        queued = queued + (NEW.status = 'queued') - (OLD.status = 'queued'),
        running = running + (NEW.status = 'running') - (OLD.status = 'running'),
        completed = completed + (NEW.status = 'completed') - (OLD.status = 'completed'),
        failed = failed + (NEW.status = 'failed') - (OLD.status = 'failed'),
        cancelled = cancelled + (NEW.status = 'cancelled') - (OLD.status = 'cancelled')
    WHERE owner_id = NEW.owner_id;
END""",
    "task_counts_delete": """
CREATE TRIGGER task_counts_delete AFTER DELETE ON tasks BEGIN
    UPDATE task_counts SET
        queued = queued - (OLD.status = 'queued'),
        running = running - (OLD.status = 'running'),
        completed = completed - (OLD.status = 'completed'),
        failed = failed - (OLD.status = 'failed'),
        cancelled = cancelled - (OLD.status = 'cancelled')
    WHERE owner_id = OLD.owner_id;
END""",
}


def count(apps, schema_editor):
    """Count what is there, and from then on every change."""
    schema_editor.execute(FILL)
    for statement in TRIGGERS.values():
        schema_editor.execute(statement)


def drop_triggers(apps, schema_editor):
    """Count no more."""
    for name in TRIGGERS:
        schema_editor.execute(f"DROP TRIGGER {name}")


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0008_result_choices"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="TaskCount",
            fields=[
                (
                    "owner",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("queued", models.BigIntegerField(default=0)),
                ("running", models.BigIntegerField(default=0)),
                ("completed", models.BigIntegerField(default=0)),
                ("failed", models.BigIntegerField(default=0)),
                ("cancelled", models.BigIntegerField(default=0)),
            ],
            options={"db_table": "task_counts"},
        ),
        migrations.RunPython(count, drop_triggers),
    ]
