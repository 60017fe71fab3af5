"""The base of admin pages whose rows people only read, and change through actions that call services."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest


class ReadOnlyAdmin(admin.ModelAdmin):
    """Nobody adds, edits or removes a row here: each has an owner, and every change its audit entry."""

    show_full_result_count = False
    """Counting a million rows for a page of fifty costs more than the page."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def apply_to_each(
        self,
        request: HttpRequest,
        rows: Iterable[Any],
        service: Callable[[Any, Any], Any],
        refusal: type[Exception],
        done: str,
    ) -> None:
        """Call a service with each row and the user; tell how many were done, and why others were not."""
        count = 0
        for row in rows:
            try:
                service(row, request.user)
                count += 1
            except refusal as error:
                self.message_user(request, f"{row}: {error}", messages.WARNING)
        if count:
            noun = self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural
            self.message_user(request, f"{count} {noun} {done}.")
