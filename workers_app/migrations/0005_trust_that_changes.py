"""Gives certificate authorities a table of their own, and workers and tokens the CAs they know."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

from octaskly_wire.identity import ca_digest


def move_ca(apps: Any, _: Any) -> None:
    """Move the one CA there was into the table; every worker and every token knows it."""
    for cluster in apps.get_model("workers_app", "Cluster").objects.all():
        digest = ca_digest(bytes(cluster.ca_certificate)).hex()
        apps.get_model("workers_app", "CertificateAuthority").objects.create(
            digest=digest,
            certificate=cluster.ca_certificate,
            key_wrapped=cluster.ca_key_wrapped,
            created_at=cluster.created_at,
        )
        apps.get_model("workers_app", "JoinToken").objects.update(ca_digest=digest)
        apps.get_model("workers_app", "Worker").objects.update(
            certificate_ca_digest=digest, trusted_ca_digests=[digest]
        )


class Migration(migrations.Migration):
    """New columns first, then what stood in the old ones moves, then they go."""

    dependencies = [
        ("workers_app", "0004_server_key"),
    ]

    operations = [
        migrations.CreateModel(
            name="CertificateAuthority",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(help_text="hex SHA-256 of the public key", max_length=64, unique=True)),
                ("certificate", models.BinaryField(help_text="DER")),
                ("key_wrapped", models.BinaryField(help_text="AES-256-GCM, nonce first")),
                ("created_at", models.DateTimeField()),
            ],
            options={"db_table": "certificate_authorities", "ordering": ["id"]},
        ),
        migrations.AddField(
            model_name="jointoken",
            name="ca_digest",
            field=models.CharField(blank=True, default="", help_text="of the CA that it pins", max_length=64),
        ),
        migrations.AddField(
            model_name="worker",
            name="certificate_ca_digest",
            field=models.CharField(
                blank=True,
                default="",
                help_text="the CA of the certificate that the worker has for certain",
                max_length=64,
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="trusted_ca_digests",
            field=models.JSONField(
                blank=True, default=list, help_text="the CAs that the worker said it trusts, the newest first"
            ),
        ),
        migrations.RunPython(move_ca, migrations.RunPython.noop),
        migrations.RemoveField(model_name="cluster", name="ca_certificate"),
        migrations.RemoveField(model_name="cluster", name="ca_key_wrapped"),
        migrations.AddField(
            model_name="cluster",
            name="former_keys_sealed",
            field=models.BinaryField(
                default=b"",
                help_text="keys of sessions and tokens made under the secret key before; AES-256-GCM, nonce first",
            ),
        ),
        migrations.AddField(
            model_name="cluster",
            name="former_keys_until",
            field=models.DateTimeField(blank=True, help_text="when they are forgotten", null=True),
        ),
    ]
