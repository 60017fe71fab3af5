"""Adds the trail's sealed keys and its tombstones; rows that a tombstone covers may be removed, no others."""

from django.db import migrations, models

BEFORE = (
    "CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log"
    " BEGIN SELECT RAISE(ABORT, 'audit_log is append-only: rows cannot be removed'); END"
)
TRIGGERS = {
    "audit_log_no_delete": "CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log"
    " WHEN OLD.id > (SELECT coalesce(max(last_id), 0) FROM audit_tombstones)"
    " BEGIN SELECT RAISE(ABORT, 'audit_log is append-only: rows cannot be removed'); END",
    "audit_tombstones_no_update": "CREATE TRIGGER audit_tombstones_no_update BEFORE UPDATE ON audit_tombstones"
    " BEGIN SELECT RAISE(ABORT, 'audit_tombstones is append-only: rows cannot be changed'); END",
    "audit_tombstones_no_delete": "CREATE TRIGGER audit_tombstones_no_delete BEFORE DELETE ON audit_tombstones"
    " BEGIN SELECT RAISE(ABORT, 'audit_tombstones is append-only: rows cannot be removed'); END",
}


def add_triggers(apps, schema_editor):
    """Add them where SQLite is used."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER IF EXISTS audit_log_no_delete")
        for statement in TRIGGERS.values():
            schema_editor.execute(statement)


def drop_triggers(apps, schema_editor):
    """Take them back."""
    if schema_editor.connection.vendor == "sqlite":
        for name in TRIGGERS:
            schema_editor.execute(f"DROP TRIGGER {name}")
        schema_editor.execute(BEFORE)


class Migration(migrations.Migration):
    dependencies = [("audit_app", "0002_append_only")]

    operations = [
        migrations.CreateModel(
            name="AuditKeys",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("sealed_end", models.BinaryField(help_text="the last row, and the key that goes on from there")),
                (
                    "sealed_origin",
                    models.BinaryField(help_text="the first key; empty once it was taken off the machine"),
                ),
                ("sealed_signing_key", models.BinaryField(help_text="Ed25519, of checkpoints and tombstones")),
                ("exported_at", models.DateTimeField(null=True)),
            ],
            options={"db_table": "audit_keys"},
        ),
        migrations.CreateModel(
            name="AuditTombstone",
            fields=[
                ("first_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("last_id", models.BigIntegerField()),
                ("row_count", models.BigIntegerField()),
                ("head", models.CharField(help_text="hash of the last row removed", max_length=64)),
                ("removed_by", models.CharField(max_length=150)),
                ("removed_at", models.CharField(help_text="ISO 8601 in UTC, as it is signed", max_length=40)),
                ("signature", models.CharField(help_text="Ed25519", max_length=128)),
            ],
            options={"db_table": "audit_tombstones", "ordering": ["first_id"]},
        ),
        migrations.RunPython(add_triggers, drop_triggers),
    ]
