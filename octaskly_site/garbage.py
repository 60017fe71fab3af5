"""Has Python leave out what Django has loaded when it looks for cycles of garbage: much to walk over, and never garbage.

How often it looks stays as it is: what a request leaves in a cycle may hold its body, which is megabytes.
"""

from __future__ import annotations

import gc


def spare_what_is_loaded() -> None:
    """Leave out what is there now for good; call once, when everything is loaded."""
    gc.collect()
    gc.freeze()
