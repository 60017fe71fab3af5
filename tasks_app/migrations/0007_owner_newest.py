"""Lists a user's tasks by an index that has their order; it takes the place of the one on the owner alone."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

OWNER_ALONE = "tasks_owner_id_b2c75a80"


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0006_spawn_seconds"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(models.F("owner"), models.F("id"), name="tasks_owner_newest"),
        ),
        # Django would copy the whole table for this on SQLite, and lose the trigger of 0002 with it.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="task",
                    name="owner",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="tasks",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            database_operations=[
                migrations.RunSQL(
                    f"DROP INDEX IF EXISTS {OWNER_ALONE}", f"CREATE INDEX {OWNER_ALONE} ON tasks (owner_id)"
                ),
            ],
        ),
    ]
