"""Keeps bundles in a folder beside the database: made on first need, made anew when our code has changed."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from octaskly_site.join import bundle
from octaskly_site.join.target_tag import own_tag

logger = logging.getLogger(__name__)

BUNDLES_FOLDER: Final = "bundles"
"""Beside the database."""

TAG: Final = re.compile(r"cp3\d{2}t?-[a-z]{1,16}-[a-z0-9_]{1,16}")


@dataclass(frozen=True, slots=True)
class Label:
    """What is known of a bundle; it lies beside its zip."""

    sha256: str
    own_digest: str
    packages: dict[str, str]
    written_at_ns: int
    """Of the zip: a label without its zip, as a crash between the two leaves it, says nothing."""


class Shelf:
    """The folder of bundles. Safe for threads; another process may put bundles in at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def offer(self) -> dict[str, str]:
        """Return the SHA-256 of each tag's bundle, all of them up to date."""
        with self._lock:
            tags = {path.stem for path in self._folder.glob("*.zip") if TAG.fullmatch(path.stem)} | {own_tag()}
            return {tag: label.sha256 for tag in sorted(tags) if (label := self._up_to_date(tag)) is not None}

    def path_of(self, tag: str) -> Path | None:
        """Return the zip for a tag, None where there is none."""
        path = self._zip(tag)
        return path if TAG.fullmatch(tag) and tag in self.offer() else None

    def put(self, tag: str, versions: Mapping[str, str], third_party: Iterator[tuple[str, bytes]]) -> Label:
        """Make a bundle and put it in place in one step."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        draft = self._folder / f".{tag}.{os.getpid()}.{threading.get_ident()}"
        try:
            digest = bundle.write_bundle(draft, tag, versions, third_party)
            label = Label(digest, bundle.own_digest(), dict(versions), draft.stat().st_mtime_ns)
            draft.replace(self._zip(tag))
            draft.write_text(json.dumps(asdict(label)), encoding="ascii")
            draft.replace(self._zip(tag).with_suffix(".json"))
        finally:
            draft.unlink(missing_ok=True)
        logger.info("Made the worker bundle %s", tag)
        return label

    def _up_to_date(self, tag: str) -> Label | None:
        label, is_own = self._label(tag), tag == own_tag()
        try:
            if is_own:
                versions = bundle.installed_versions()
            else:
                versions = label.packages if label else bundle.versions_in(self._zip(tag))
            if label and label.own_digest == bundle.own_digest() and label.packages == versions:
                return label
            return self.put(
                tag, versions, bundle.installed_files() if is_own else bundle.third_party_of(self._zip(tag))
            )
        except (OSError, ValueError, bundle.CannotBundle) as error:
            logger.error("No worker bundle for %s: %s", tag, error)  # noqa: TRY400 - the text says it all
        return None

    def _label(self, tag: str) -> Label | None:
        path = self._zip(tag)
        try:
            label = Label(**json.loads(path.with_suffix(".json").read_text("ascii")))
            return label if label.written_at_ns == path.stat().st_mtime_ns else None
        except (OSError, ValueError, TypeError):
            return None

    def _zip(self, tag: str) -> Path:
        return self._folder / f"{tag}.zip"
