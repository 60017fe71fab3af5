"""The live routes: requests that last as long as a command, outside of Django's threads."""

# Entered first: its settings name modules of ours which stand on it.
import rest_framework.views  # noqa: F401
