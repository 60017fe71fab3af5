"""Lists tasks by worker and by name through indexes, and looks at a step of a status without building a table for it."""

from django.db import migrations, models

from tasks_app.transitions import trigger_sql


def renew_trigger(apps, schema_editor):
    """Refuse the same steps as before."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER tasks_status_step")
        schema_editor.execute(trigger_sql())


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0009_task_counts")]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("worker_id"), models.F("id"), condition=models.Q(("worker_id__gt", "")), name="tasks_worker"
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("name"), models.F("id"), condition=models.Q(("name__gt", "")), name="tasks_name"
            ),
        ),
        migrations.RunPython(renew_trigger, migrations.RunPython.noop),
    ]
