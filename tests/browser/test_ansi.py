"""Terminal output as pages show it: colours, lines written over, and nothing that a command could do with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.static_page import static_page

ESC = "\x1b"
SHOW = """
async (pieces) => {
  const { Ansi, nodesOf } = await import("/js/ansi.js");
  const ansi = new Ansi();
  const lines = pieces.flatMap((piece) => ansi.write(piece));
  if (ansi.open.length) lines.push(ansi.open);
  document.getElementById("terminal").replaceChildren(...lines.map((runs) => {
    const line = document.createElement("div");
    line.append(...nodesOf(runs));
    return line;
  }));
  return [...document.getElementById("terminal").children].map((line) => line.innerHTML);
}
"""
CONTRASTS = """
(classes) => {
  const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const terminal = document.getElementById("terminal");
  return classes.map((names) => {
    const span = document.createElement("span");
    span.className = names;
    terminal.append(span);
    const style = getComputedStyle(span);
    const own = style.backgroundColor === "rgba(0, 0, 0, 0)" ? getComputedStyle(terminal).backgroundColor : style.backgroundColor;
    const [dark, bright] = [light(own), light(style.color)].sort((one, other) => one - other);
    span.remove();
    return (bright + 0.05) / (dark + 0.05);
  });
}
"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page with nothing but a terminal, under the content policy of all pages."""
    page = static_page(browser, '<div class="terminal" id="terminal"></div>', "tokens", "base", "ansi")
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    page.close()
    assert not faults


CASES = {
    "colours and typefaces": (
        f"{ESC}[1;31mred{ESC}[0m plain {ESC}[4;97;44mon blue{ESC}[m",
        ['<span class="bold fg1">red</span> plain <span class="underline bg4 fg15">on blue</span>'],
    ),
    "colours of 256 and of 16 million": (
        f"{ESC}[38;5;208ma{ESC}[48;2;0;0;128mb{ESC}[0;38:2::255:255:0mc{ESC}[38;5;9md",
        [
            (
                '<span style="color: rgb(255, 135, 0);">a</span>'
                '<span style="background-color: rgb(0, 0, 128); color: rgb(255, 135, 0);">b</span>'
                '<span style="color: rgb(255, 255, 0);">c</span><span class="fg9">d</span>'
            )
        ],
    ),
    "inverse": (f"{ESC}[7mi{ESC}[31mr", ['<span class="inverse">i</span><span class="bg1 fg0">r</span>']),
    "a progress bar": ("10%\r20%\r100%\nnext", ["100%", "next"]),
    "a shorter text over a longer one": ("abcdef\rxy\r\nz", ["xycdef", "z"]),
    "a line erased": (f"{ESC}[32mdownloading\r{ESC}[Kdone{ESC}[0m\n", ['<span class="fg2">done</span>']),
    "backspace and tab": ("ab\b\bX\tY\tZ", ["Xb      Y\tZ"]),
    "characters of two halves": ("\U0001f600\U0001f600!\rx", ["x\U0001f600!"]),
    "HTML": (
        "<img src=x onerror=alert(1)></script>&lt;\n",
        ["&lt;img src=x onerror=alert(1)&gt;&lt;/script&gt;&amp;lt;"],
    ),
    "a link": (f"{ESC}]8;;javascript:alert(1)\x07click{ESC}]8;;{ESC}\\ me", ["click me"]),
    "titles, moves, modes": (
        f"{ESC}]0;owned\x07a{ESC}[2J{ESC}[5;5Hb{ESC}[?25lc{ESC}(Bd{ESC}=e{ESC}P1$r{ESC}\\f",
        ["abcdef"],
    ),
    "control characters": ("a\x00\x01\x07\x0e\x7f\x85\x9fz", ["a"]),
    "turned text": ("safe\u202egnp.exe\u2066x\u2069", ["safe\ufffdgnp.exe\ufffdx\ufffd"]),
    "an escape that a line breaks off": (f"a{ESC}]0;title\nb{ESC}[31\nc", ["a", "b", "c"]),
    "an escape that is none": (f"{ESC}[31;{ESC}[32mgreen{ESC}[99;;m still", ['<span class="fg2">green</span> still']),
}


@pytest.mark.parametrize(("text", "lines"), CASES.values(), ids=CASES)
def test_output_is_shown_as_a_terminal_would(page: Page, text: str, lines: list[str]) -> None:
    """Whole or torn between any two characters, and made of text and spans only."""
    assert page.evaluate(SHOW, [text]) == lines
    assert page.evaluate(SHOW, list(text)) == lines
    assert page.locator("#terminal :not(div):not(span)").count() == 0


def test_endless_sequences_and_lines_end(page: Page) -> None:
    """An escape that does not end is given up after 4 KiB, and a line that does not end is broken there."""
    (line,) = page.evaluate(SHOW, [f"{ESC}]0;{'x' * 5000}"])
    assert 0 < len(line) < 1000
    lines = page.evaluate(SHOW, ["y" * 10_000])
    assert [len(line) for line in lines] == [4096, 4096, 1808]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_can_be_read(page: Page, theme: str) -> None:
    """Each of the sixteen on the terminal's ground, and light and black text on each of them, with 4.5 to 1."""
    page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
    names = [f"fg{number}" for number in range(16)] + [f"bg{number}" for number in range(16)]
    names += ["inverse", *(f"fg0 bg{number}" for number in range(1, 16))]
    weak = {name: ratio for name, ratio in zip(names, page.evaluate(CONTRASTS, names), strict=True) if ratio < 4.5}
    assert not weak
    shown = page.evaluate(SHOW, [f"{ESC}[38;5;17mnavy{ESC}[0;48;2;250;250;250mon white"])
    assert "color: rgb(0, 0, 95)" not in shown[0]
    assert "rgb(219, 227, 238)" not in shown[0]
