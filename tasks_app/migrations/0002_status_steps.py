"""Makes the database itself refuse undefined steps of a task's status."""

from django.db import migrations

from tasks_app.transitions import trigger_sql


def add_trigger(apps, schema_editor):
    """Add it where SQLite is used."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(trigger_sql())


def drop_trigger(apps, schema_editor):
    """Take it back."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER tasks_status_step")


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0001_initial")]

    operations = [migrations.RunPython(add_trigger, drop_trigger)]
