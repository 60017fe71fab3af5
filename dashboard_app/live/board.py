"""The state of one scope, from which each subscriber gets what has changed since the version it has. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

MAX_EVENTS: Final = 100
MAX_GONE: Final = 1000
"""So many removals are remembered; whoever is further behind gets everything again."""


class Board:
    """Sections of keys with values, single values, and the newest events."""

    def __init__(self, max_events: int = MAX_EVENTS) -> None:
        self.version = 0
        self._values: dict[str, tuple[int, Any]] = {}
        self._sections: dict[str, dict[str, tuple[int, Any]]] = {}
        self._gone: dict[tuple[str, str], int] = {}
        """Section and key of what was removed in which version, oldest first."""
        self._oldest = 0
        """What was removed up to this version may be forgotten."""
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=max_events)

    @property
    def last_event_id(self) -> int:
        """Return the id of the newest event, 0 without any."""
        return int(self._events[-1][1]["id"]) if self._events else 0

    def put_value(self, name: str, value: Any) -> None:
        """Set a single value."""
        if name not in self._values or self._values[name][1] != value:
            self.version += 1
            self._values[name] = (self.version, value)

    def put(self, section: str, values: Mapping[str, Any]) -> None:
        """Set all of a section: keys that are not named are gone."""
        present = self._sections.setdefault(section, {})
        version = self.version + 1
        for key in present.keys() - values.keys():
            self.version = version
            del present[key]
            self._gone[section, key] = version
        for key, value in values.items():
            if key not in present or present[key][1] != value:
                self.version = version
                present[key] = (version, value)
                self._gone.pop((section, key), None)
        while len(self._gone) > MAX_GONE:
            oldest = next(iter(self._gone))
            self._oldest = self._gone.pop(oldest)

    def add_events(self, events: Sequence[dict[str, Any]]) -> None:
        """Append events, oldest first, each with an `id`; those that are known already are passed over."""
        new = [event for event in events if event["id"] > self.last_event_id]
        if new:
            self.version += 1
            self._events.extend((self.version, event) for event in new)

    def since(self, version: int) -> dict[str, Any]:
        """Return the frame that brings a subscriber from this version to the newest, 0 from nothing at all.

        Sections, values and events without a change are absent; a removed key is null.
        """
        is_full = version == 0 or version < self._oldest
        base = 0 if is_full else version
        frame: dict[str, Any] = {"type": "state", "version": self.version, "is_full": is_full}
        frame |= {name: value for name, (changed, value) in self._values.items() if changed > base}
        for section, present in self._sections.items():
            changes = {key: value for key, (changed, value) in present.items() if changed > base}
            if is_full or changes:
                frame[section] = changes
        for (section, key), changed in () if is_full else self._gone.items():
            if changed > base:
                frame.setdefault(section, {})[key] = None
        if events := [event for changed, event in self._events if changed > base]:
            frame["events"] = events
        return frame
