"""What the door and the web server show to machines that join: the scripts and the bundles."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from dispatcher.shell.door import Answer
from octaskly_site.join.shelf import Shelf
from octaskly_wire import __version__
from octaskly_wire.address import HostPort, NoAddress, parse_host_port

HERE: Final = Path(__file__).parent
BUNDLE: Final = re.compile(r"/worker/([A-Za-z0-9_-]{1,48})\.zip")
HTTPS_PORT: Final = 443


class JoinContent:
    """Answers by path. Safe for threads; making a bundle takes a second, once."""

    def __init__(self, shelf: Shelf, pin: str) -> None:
        self._shelf = shelf
        self._pin = pin

    def at_door(self, path: str, host: str) -> Answer | None:
        """Answer on the workers' port: it is where the asker reached us."""
        return self._answer(path, lambda: parse_host_port(host, HTTPS_PORT))

    def at_web(self, path: str, host: str, workers_port: int) -> Answer | None:
        """Answer on the web server's port: the workers' port is another one of the same host."""
        return self._answer(path, lambda: HostPort(parse_host_port(host, HTTPS_PORT).host, workers_port))

    def _answer(self, path: str, address: Callable[[], HostPort]) -> Answer | None:
        if path in {"/join.sh", "/join.ps1"}:
            try:
                return Answer("text/plain; charset=utf-8", self._script(path[1:], str(address())).encode())
            except NoAddress:
                return None
        if (match := BUNDLE.fullmatch(path)) and (zip_path := self._shelf.path_of(match[1])):
            return Answer("application/zip", zip_path)
        return None

    def _script(self, name: str, address: str) -> str:
        offers = {
            tag: json.dumps({"address": address, "pin": self._pin, "version": __version__, "sha256": digest})
            for tag, digest in self._shelf.offer().items()
        }
        # None of these has a single quote in it, so both shells take them in single quotes as they are.
        if name == "join.sh":
            cases = [f"    {tag}) echo '{offer}' ;;" for tag, offer in offers.items()]
        else:
            cases = [f"  '{tag}' = '{offer}'" for tag, offer in offers.items()]
        text = _read(name).replace("@CASES@", "\n".join(cases)).replace("@OFFERED@", " ".join(offers))
        return text.replace("@TAG_PY@", _read("target_tag.py")).replace("@INSTALLER_PY@", _read("installer.py"))


@cache
def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="ascii").rstrip("\n")
