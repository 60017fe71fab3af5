"""Names the words that two columns of an attempt hold, so that the admin need not look for them in all rows. No SQL."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0007_owner_newest"),
    ]

    operations = [
        migrations.AlterField(
            model_name="result",
            name="failure_reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("exit_code", "exit_code"),
                    ("timeout", "timeout"),
                    ("signal", "signal"),
                    ("memory_limit", "memory_limit"),
                    ("disk_limit", "disk_limit"),
                    ("cpu_limit", "cpu_limit"),
                    ("process_limit", "process_limit"),
                    ("missing_output", "missing_output"),
                    ("staging", "staging"),
                    ("sandbox_unavailable", "sandbox_unavailable"),
                    ("worker_lost", "worker_lost"),
                    ("cancelled", "cancelled"),
                ],
                max_length=20,
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="result",
            name="sandbox_level",
            field=models.CharField(
                blank=True,
                choices=[("none", "none"), ("basic", "basic"), ("strict", "strict"), ("very_strict", "very_strict")],
                default="",
                max_length=12,
            ),
        ),
    ]
