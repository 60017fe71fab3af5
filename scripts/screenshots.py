"""Draws docs/images again: a real cluster with real workers and tasks, its pages in a real Chromium, its command line in a terminal.

    .venv/bin/python scripts/screenshots.py [--seconds 100] [--into docs/images]

Nothing is arranged but the names: what the pictures show is what these tasks did in the minute before.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize

from tests.support.chromium import NoChromium, chromium
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.programs import ROOT
from tests.support.terminal_session import TerminalSession

MACHINES = {"render-01": 4, "render-02": 4, "studio-pc": 3, "laptop-anna": 2}
SIZE: ViewportSize = {"width": 1280, "height": 900}
MOST_BYTES = 250_000
BURST_EVERY_S = 12.0
LAST_BURST = 45
"""Enough that there is work while a picture is made."""

BUILD = r"""
step() { printf '\033[1;34m==>\033[0m \033[1m%s\033[0m\n' "$1"; }
sleep 4
step 'Configuring'
for lib in zlib-1.3.1 libpng-1.6.44 openexr-3.3.2; do printf '    found %-16s \033[32mok\033[0m\n' "$lib"; sleep 0.2; done
printf '    found %-16s \033[33mnone, building without\033[0m\n' opencolorio
step 'Compiling 48 files'
for n in $(seq 1 48); do
  bar=$(printf '%*s' $((n * 30 / 48)) '' | tr ' ' '#')
  printf '\r    [\033[36m%-30s\033[0m] %2d of 48' "$bar" "$n"; sleep 0.05
done
echo
printf '    \033[33mwarning:\033[0m src/tiles.c:214: unused variable \033[1mstride\033[0m\n' >&2
step 'Running 6 tests'
for name in colour_spaces tile_cache rounding metadata; do
  sleep 0.4; printf '    \033[32mpassed\033[0m  %-20s \033[2m0.4 s\033[0m\n' "$name"
done
step 'Packing'
sleep 600
"""


def start(folder: Path) -> Cluster:
    """Start the dispatcher and the machines."""
    cluster = Cluster(folder, OCTASKLY_HEARTBEAT_S="1", OCTASKLY_LEASE_S="30", OCTASKLY_LOG="warn")
    cluster.start_dispatcher()
    for name, slots in MACHINES.items():
        cluster.start_worker(name, slots=slots)
    cluster.wait_connected(*MACHINES, timeout_s=60)
    return cluster


def tasks(dice: random.Random) -> Iterator[dict[str, Any]]:
    """Yield what people run: much that is short, some that is long, a little that fails."""
    for number in itertools.count(1):
        seconds = dice.uniform(3, 9)
        yield {"name": f"render frame {number:04}", "command": f"sleep {seconds:.1f}; echo frame {number} written"}
        if number % 3 == 0:
            yield {"name": f"thumbnails {number // 3}", "command": f"sleep {dice.uniform(0.5, 2):.1f}"}
        if number % 7 == 0:
            yield {
                "name": f"transcode clip {number // 7:02}",
                "command": f"sleep {dice.uniform(15, 40):.1f}",
                "priority": 5,
            }
        if number % 11 == 0:
            yield {"name": f"unit tests {number // 11}", "command": "sleep 2; echo '1 failed, 212 passed'; exit 1"}


def work(cluster: Cluster, seconds: float) -> None:
    """Keep the machines busy for that long, in bursts, so that the charts have a story."""
    dice = random.Random(4)  # noqa: S311 - lengths of naps
    coming = tasks(dice)
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        cluster.api.post("tasks", list(itertools.islice(coming, dice.randint(14, 30))))
        time.sleep(min(left, BURST_EVERY_S))


def hurry(cluster: Cluster) -> None:
    """Submit enough to have all machines busy while a picture is made."""
    cluster.api.post("tasks", list(itertools.islice(tasks(random.Random(5)), LAST_BURST)))  # noqa: S311 - as above


def signed_in(browser: Browser, cluster: Cluster, scheme: str) -> Page:
    """Return a page of a fresh browser, signed in."""
    options: Any = {"color_scheme": scheme}
    context = browser.new_context(base_url=cluster.url, viewport=SIZE, locale="en-GB", timezone_id="UTC", **options)
    page = context.new_page()
    page.goto("/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("status").filter(has_text="Live").wait_for()
    return page


def picture(page: Page, path: Path) -> None:
    """Draw what is in the window, once nothing moves any more."""
    page.wait_for_timeout(1500)
    page.screenshot(path=path, animations="disabled")
    _check_size(path)


def draw_dashboard(browser: Browser, cluster: Cluster, into: Path) -> None:
    """Draw the dashboard in both themes."""
    for scheme, file in (("light", "dashboard.png"), ("dark", "dashboard-dark.png")):
        picture(signed_in(browser, cluster, scheme), into / file)


def draw_task(browser: Browser, cluster: Cluster, into: Path) -> None:
    """Draw the page of a build while it runs."""
    answer = cluster.api.http.put("/api/v1/files/build.sh", content=BUILD.encode())
    answer.raise_for_status()
    task_id = cluster.api.submit(
        "sh build.sh --release", name="build the renderer", inputs=["build.sh"], outputs=["*.tar.gz"], priority=50,
        limits={"memory_mb": 2048}, timeout=1800,
    )  # fmt: skip
    page = signed_in(browser, cluster, "light")
    page.goto(f"/tasks/{task_id}/")
    page.get_by_text("Packing").wait_for(timeout=60_000)
    picture(page, into / "task.png")
    cluster.api.post(f"tasks/{task_id}/cancel")


def draw_terminal(browser: Browser, cluster: Cluster, folder: Path, into: Path) -> None:
    """Draw a session with the command line."""
    session = TerminalSession(folder / "home", cluster.url)
    (folder / "home" / "photo.jpg").write_bytes(random.Random(6).randbytes(3_000_000))  # noqa: S311 - no secret
    session.quietly("login", "--username", "admin", OCTASKLY_PASSWORD=ADMIN_PASSWORD)
    session.type("octaskly workers")
    session.type("octaskly tasks --limit 6")
    session.type("octaskly run -i photo.jpg -o photo.sha256 -- 'sha256sum photo.jpg | tee photo.sha256'")
    session.type("octaskly map 'sleep 1; echo tile {} done' ::: north east south west")
    page = browser.new_page(viewport=SIZE)
    page.set_content(session.html())
    path = into / "terminal.png"
    page.locator("main").screenshot(path=path)
    _check_size(path)


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    print(
        f"{path.name}: {size // 1000} kB{'' if size <= MOST_BYTES else ', more than a README should carry'}", flush=True
    )


def main() -> int:
    """Draw all pictures; return 1 where there is no Chromium."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=100.0, help="of work before the first picture")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="octaskly-pictures-") as name:
        cluster = start(Path(name))
        try:
            with chromium() as browser:
                work(cluster, options.seconds)
                hurry(cluster)
                draw_dashboard(browser, cluster, options.into)
                draw_task(browser, cluster, options.into)
                draw_terminal(browser, cluster, Path(name), options.into)
        except NoChromium as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
