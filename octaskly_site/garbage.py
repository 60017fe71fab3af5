"""Has Python look for cycles of garbage seldom: it walks over all that Django has loaded, and finds next to nothing."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""So many more objects than were freed make a look at the young ones due. Python's own number is 700."""


def collect_seldom() -> None:
    """Leave out what is there now for good; call once, when everything is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
