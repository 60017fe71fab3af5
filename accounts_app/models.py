"""Table of recent failed sign-ins, which the lockout counts."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class LoginFailure(models.Model):
    """One sign-in that failed, or one that is being checked just now. Rows older than the window are deleted."""

    username = models.CharField(max_length=150)
    address = models.CharField(max_length=64, blank=True)
    failed_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "login_failures"
        indexes: ClassVar = [models.Index("username", "address", "failed_at", name="login_failures_of")]

    def __str__(self) -> str:
        return f"{self.username} from {self.address}"
