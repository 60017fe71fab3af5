"""Tables of the cluster's own identity, its workers' whitelist and the join tokens."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.urls import reverse

from octaskly_wire.vocabulary import Admission

ADMISSION_CHOICES = [(state.value, state.value) for state in Admission]


class Cluster(models.Model):
    """The one row that makes this database a cluster: its id and its key for TLS servers.

    The private keys, here and of the certificate authorities, are wrapped with a key derived from the secret key, so a wrong secret key is
    noticed at start, and a copy of the database alone cannot sign certificates.
    """

    cluster_id = models.CharField(primary_key=True, max_length=36)
    server_key_wrapped = models.BinaryField(default=b"", help_text="of TLS servers; AES-256-GCM, nonce first")
    listens_on = models.CharField(
        max_length=255, blank=True, default="", help_text="HOST:PORT at which workers reach the dispatcher"
    )
    former_keys_sealed = models.BinaryField(
        default=b"", help_text="keys of sessions and tokens made under the secret key before; AES-256-GCM, nonce first"
    )
    former_keys_until = models.DateTimeField(null=True, blank=True, help_text="when they are forgotten")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "cluster"

    def __str__(self) -> str:
        return self.cluster_id


class CertificateAuthority(models.Model):
    """A CA that workers trust: one, and a second while the newer one takes over."""

    digest = models.CharField(max_length=64, unique=True, help_text="hex SHA-256 of the public key")
    certificate = models.BinaryField(help_text="DER")
    key_wrapped = models.BinaryField(help_text="AES-256-GCM, nonce first")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "certificate_authorities"
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.digest[:16]


class JoinToken(models.Model):
    """A right to enrol a machine. Only the secret's digest is kept."""

    token_id = models.CharField(primary_key=True, max_length=8)
    secret_sha256 = models.CharField(max_length=64)
    ca_digest = models.CharField(max_length=64, blank=True, default="", help_text="of the CA that it pins")
    uses_allowed = models.PositiveIntegerField(default=1)
    uses_left = models.PositiveIntegerField(default=1)
    auto_approve = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        db_table = "join_tokens"
        ordering: ClassVar = ["-created_at"]

    def __str__(self) -> str:
        return self.token_id


class Worker(models.Model):
    """A machine that enrolled: its key's place on the whitelist and what is known of it.

    The engine owns the columns below the comment; people change the rest through the services.
    """

    id = models.CharField(primary_key=True, max_length=36, editable=False)
    name = models.CharField(max_length=255)
    admission = models.CharField(max_length=10, choices=ADMISSION_CHOICES, default=Admission.PENDING.value)
    admission_reason = models.CharField(max_length=255, blank=True, default="")
    public_key_sha256 = models.CharField(max_length=64, unique=True)
    is_draining = models.BooleanField(default=False, help_text="takes nothing new")
    created_at = models.DateTimeField()
    approved_at = models.DateTimeField(null=True, blank=True)
    certificate_expires_at = models.DateTimeField(null=True, blank=True)
    certificate_ca_digest = models.CharField(
        max_length=64, blank=True, default="", help_text="the CA of the certificate that the worker has for certain"
    )
    trusted_ca_digests = models.JSONField(
        default=list, blank=True, help_text="the CAs that the worker said it trusts, the newest first"
    )
    join_token_id = models.CharField(max_length=8, blank=True, default="")

    # Owned by the engine.
    is_connected = models.BooleanField(default=False)
    has_begun_drain = models.BooleanField(default=False, help_text="the worker itself said that it stops")
    pause_reason = models.CharField(
        max_length=4096, blank=True, default="", help_text="why the worker itself takes nothing new for now"
    )
    connected_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    boot_id = models.CharField(max_length=64, blank=True, default="")
    address = models.CharField(max_length=64, blank=True, default="")
    transport = models.CharField(max_length=8, blank=True, default="")
    software_version = models.CharField(max_length=64, blank=True, default="")
    platform = models.CharField(max_length=255, blank=True, default="")
    slots = models.PositiveIntegerField(default=0)
    cpu_count = models.PositiveIntegerField(default=0)
    memory_total_bytes = models.BigIntegerField(default=0)
    allows_network = models.BooleanField(default=False)
    levels = models.JSONField(default=list, blank=True, help_text="proven sandbox levels: level, backend, gaps")
    levels_unproven = models.JSONField(
        default=list, blank=True, help_text="the other sandbox levels: level, reason, is_below_floor"
    )
    max_limits = models.JSONField(
        default=dict,
        blank=True,
        help_text="the most a task may ask for, timeout_s included; what is missing has no cap",
    )
    vitals = models.JSONField(default=dict, blank=True, help_text="latest load readings")

    class Meta:
        db_table = "workers"
        ordering: ClassVar = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of its page."""
        return reverse("worker-page", args=[self.id])
