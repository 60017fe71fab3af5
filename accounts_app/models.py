"""Tables of the lockout and of the budgets: what is counted must outlive a process, and be seen by all of them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class FailedSignIns(models.Model):
    """Sign-ins of one name from one address that failed, or that are being checked just now."""

    username = models.CharField(max_length=150)
    address = models.CharField(max_length=64, blank=True)
    failures = models.PositiveIntegerField(default=0)
    """Since the last success or lockout, each within the window of the one before."""
    failed_at = models.DateTimeField()
    lockouts = models.PositiveIntegerField(default=0)
    """How often the pair was shut out; each time lasts twice as long as the one before."""
    locked_until = models.DateTimeField(null=True, blank=True)
    forget_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "failed_sign_ins"
        constraints: ClassVar = [models.UniqueConstraint(fields=("username", "address"), name="failed_sign_ins_of")]

    def __str__(self) -> str:
        return f"{self.username} from {self.address}"


class Budget(models.Model):
    """What somebody has taken of a limit. Rows whose time has come are as good as none, and are deleted."""

    key = models.CharField(max_length=160, primary_key=True)
    """The limit's name, and whose budget it is."""
    spent_until = models.DateTimeField(db_index=True)
    """When all that was taken is there again."""

    class Meta:
        db_table = "budgets"

    def __str__(self) -> str:
        return self.key
