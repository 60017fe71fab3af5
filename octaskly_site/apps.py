"""Registers the composition with Django, so that its commands are found."""

from __future__ import annotations

from django.apps import AppConfig


class OctasklySiteConfig(AppConfig):
    """The top of the house; has no tables."""

    name = "octaskly_site"
    verbose_name = "Octaskly"
