"""Ten thousand names that somebody would try: each family is made of a few ideas, put where a name may have them.

`HOSTILE` families hold nothing that may be taken; of the others some may be, and then must be harmless.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from itertools import product

COUNT = 10_000
_DOTS = [
    "..",
    "%2e%2e",
    "%252e%252e",
    ".%2e",
    "\uff0e\uff0e",
    "\u2025",
    "\u2024\u2024",
    "%c0%ae%c0%ae",
    "....",
    ". .",
    ".\u200b.",
]
_SLASHES = [
    "/",
    "\\",
    "//",
    "%2f",
    "%252f",
    "%5c",
    "%c0%af",
    "\u2215",
    "\u2044",
    "\uff0f",
    "\uff3c",
    "\u29f8",
    "\u2216",
]
_TARGETS = ["etc/passwd", "secret.key", "octaskly.db", "blobs/x", "..", "a"]
_DEVICES = ["con", "PRN", "aux", "NUL", "COM1", "lpt9", "COM\u00b9", "CONIN$", "conout$", "com0"]
_AFTER_DEVICE = ["", ".txt", " .txt", ".tar.gz", "  ", ".", "...", "/a", ".\u00a0"]
_DRIVES = [
    "C:",
    "c:\\",
    "C:/boot.ini",
    "\\\\host\\share",
    "//host/share",
    "\\\\?\\C:\\x",
    "\\\\.\\pipe\\x",
    "a:stream",
    "file:///x",
]
_UNSEEN = [
    *map(chr, (*range(0x20), *range(0x7F, 0xA0))),
    *"\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\u2028\u2029",
    *"\ufff9\ufffb\u034f\u115f\u3164\uffa0\u2800\ufdd0\ufffe\uffff\U000e0041\U000e0001\U0001fffe",
]
_SURROGATES = ["\ud800", "\udfff", "\udcff", "\ud83d"]
_HOSTS = ["a{}b", "{}a", "a{}", "dir/{}x", "d{}r/x", "photo{}gpj.exe"]
_ODD = [
    "..a",
    "a..b",
    "-rf",
    "~root",
    "$(id)",
    "`id`",
    "a;b",
    "a&b",
    "a'b",
    "#",
    "%00",
    "%0a",
    "{}",
    "%s%n",
    "a\u0300",
    "\u00c5",
]
_LETTERS = "aB1._- ()=+~$#%&'`;{}!@^,äß\u0130\u0131\u017fK\u8a9e\u05d0\u0645\u0439\U0001f600\u0301\u0345\ufb01\u2163\uff0e\uff0f\uff3c\uff1a\u00a0\u3000\u2026"


def hostile() -> Iterator[str]:
    """Yield names of which none may be taken."""
    for dots, slash, target in product(["..", "."], ["/", "\\", "//"], _TARGETS):
        yield from (
            f"{dots}{slash}{target}",
            f"a{slash}{dots}{slash}{target}",
            f"{slash}{dots}",
            f"{target}{slash}{dots}",
        )
    for slash, target in product([mark for mark in _SLASHES if not mark.startswith("%")][1:], _TARGETS):
        yield from (f"{slash}{target}", f"a{slash}{slash}{target}", f"..{slash}{target}{slash}")
    for device, tail, lead in product(_DEVICES, _AFTER_DEVICE, ["", "a/", "a/b c/"]):
        yield f"{lead}{device}{tail}"
    for drive, tail in product(_DRIVES, ["", "x", "/../x"]):
        yield f"{drive}{tail}"
    for unseen, host in product(_UNSEEN, _HOSTS):
        yield host.format(unseen)
    for surrogate, host in product(_SURROGATES, _HOSTS):
        yield host.format(surrogate)
    for end, lead in product([".", " ", "..", ". .", " ."], ["a", "x/a", "ü", "a.txt"]):
        yield from (f"{lead}{end}", f"{lead}{end}/b")
    for composed in "éñüÅḟ각":
        yield from (host.format(unicodedata.normalize("NFD", composed)) for host in _HOSTS)
    yield from ("", "/", "a/", "/a", "x" * 256, "é" * 128, "/".join("x" * 17), "/".join(["x" * 250] * 5), "😀" * 64)
    yield from (host.format(mark) for mark, host in product('<>"|:?*[]', _HOSTS))


def doubtful() -> Iterator[str]:
    """Yield names without an end: some are only odd, and may be taken."""
    for dots, slash, target in product(_DOTS, _SLASHES, _TARGETS):
        yield from (f"{dots}{slash}{target}", f"x{slash}{dots}")
    yield from _ODD
    choice = random.Random(4)
    while True:
        part = "".join(choice.choices(_LETTERS, k=choice.randint(1, 12)))
        yield part if choice.random() < 0.7 else f"{part}/{choice.choice(_DOTS + _ODD)}"


def names() -> list[tuple[str, bool]]:
    """Return all, each with whether it must be refused."""
    found = dict.fromkeys(hostile(), True)
    for name in doubtful():
        if len(found) >= COUNT:
            break
        found.setdefault(name, False)
    return list(found.items())
