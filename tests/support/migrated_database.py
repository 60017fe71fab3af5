"""A database as the first start makes it before anything is in it: made once in a test process, then copied.

Migrating takes half of a dispatcher's first start. That it makes its database from nothing is for the tests that ask for
`new_cluster`.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from tests.support.programs import clean_environment, manage


def lay_database(path: Path) -> None:
    """Put an empty, migrated database at a path whose folder is not there yet."""
    path.parent.mkdir(mode=0o700, parents=True)
    shutil.copyfile(_template(), path)


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="octaskly-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "octaskly.db"
    done = manage("migrate", "--verbosity", "0", environment=clean_environment(folder, OCTASKLY_DB_PATH=str(path)))
    assert done.returncode == 0, done.stderr
    return path
