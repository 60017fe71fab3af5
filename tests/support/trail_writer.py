"""Submits and cancels tasks without a pause, as the web's processes do, until somebody kills it: `trail_writer.py NAME`."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "octaskly_site.settings")

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402

from tasks_app import services  # noqa: E402
from tasks_app.submission import TaskSpec  # noqa: E402

owner, _ = get_user_model().objects.get_or_create(username=sys.argv[1])
for number in itertools.count():
    tasks = services.submit(owner, [TaskSpec(command="true")] * (1 + number % 40))
    if number % 3 == 0:
        services.cancel_many(tasks, owner)
    print(number, flush=True)  # noqa: T201 - the test reads it
