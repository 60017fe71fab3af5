"""Texts that mean something to whatever shows them: terminals, logs, pages, spreadsheets, formats. None may be obeyed."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

MARK = "hostile"
"""Stands in each text for pages, so that it is found as text and nowhere else."""

FOR_TERMINALS = [
    "a\nb", "a\rb", "a\r\nb", "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]52;c;aGVsbG8=\x07", "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "\x1bP$q\x1b\\", "\x1b[6n", "\x1bc", "\x9b2J", "\x9d0;t\x9c", "\x07\x08\x7f\x00", "user\u202egpj.exe", "\u2066a\u2069",
    "\u061c", "\u200b", "\ufeff", "a\u2028b", "a\u2029b", "a\x85b", "a\x0bb\x0cc\x1cd", "\U000e0041", "\ufff9",
]  # fmt: skip
FOR_LOGS = [
    "12:00:00 error octaskly: forged", '"}\n{"time":"now","level":"error","message":"forged"}', "%s%n%d", "%(message)s", "{0}{self}", "{}",
    "${jndi:ldap://evil.example}", "\\u000a", "\\n", '\\"', "'", '"', "\\", "</script>",
]  # fmt: skip
FOR_PAGES = [
    f"<script>{MARK}()</script>", f"</script><img src=x onerror={MARK}()>", f'" onload="{MARK}()', f"' onmouseover='{MARK}()",
    f"javascript:{MARK}()", f"--><svg/onload={MARK}()>", f"</textarea></title><iframe src=//{MARK}>", f"{{{{{MARK}|safe}}}}", f"{{% {MARK} %}}",
    f"</pre></style><base href=//{MARK}>", f"&lt;{MARK}&#x3e;&lt;script&gt;", f"\\u003cscript\\u003e{MARK}", f"]]><x {MARK}=1>",
]  # fmt: skip
FOR_SPREADSHEETS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    '"=1',
    "\uff1d1",
    '=HYPERLINK("http://evil.example")',
]

TEXTS = [*FOR_TERMINALS, *FOR_LOGS, *FOR_PAGES, *FOR_SPREADSHEETS]

VISIBLE = [text for text in TEXTS if text.isprintable()]
"""Those that a task may be called."""


class Page(HTMLParser):
    """What a browser would make of a page: which elements and attributes there are, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._raw = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._raw = tag if tag in {"script", "style"} else ""

    def handle_endtag(self, tag: str) -> None:
        """Note the end of one."""
        if tag == self._raw:
            self._raw = ""

    def handle_data(self, data: str) -> None:
        """Note text, unless a browser would run it."""
        if self._raw == "script" and self.elements[-1][1].get("type") != "application/json":
            assert MARK not in data, data
        self.text += data

    def assert_harmless(self) -> None:
        """Fail where a text became more than text: an element, an attribute, a handler or an address of its own."""
        for tag, attributes in self.elements:
            told: Any = (tag, attributes)
            assert tag not in {"iframe", "base", "object", "embed", "x"}, told
            for name, value in attributes.items():
                assert not name.startswith("on"), told
                assert MARK not in name, told
                if name in {"href", "src", "action", "formaction", "srcdoc", "style"}:
                    assert not value.strip().lower().startswith(("javascript:", "data:text", f"//{MARK}")), told
            assert attributes.get("src") != "x", told
