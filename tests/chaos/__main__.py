"""`make chaos`: plays the scenarios on real programs, checks what they leave behind, and prints a table of counts."""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from octaskly_wire.vocabulary import Transport
from tests.chaos.checker import check
from tests.chaos.field import Field
from tests.chaos.report import Verdict, table
from tests.chaos.scenarios import Form, Scenario, Skipped
from tests.chaos.scenarios.catalogue import SCENARIOS

AT_ONCE = 2


def main() -> int:
    """Play what is asked for; return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=(__doc__ or "").splitlines()[0])
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--short", action="store_true", help="the form for CI: a few minutes")
    parser.add_argument("--seed", type=int, help="of all random moments; a new one each time unless given")
    parser.add_argument("--scenario", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help=f"scenarios side by side (default {AT_ONCE})")
    parser.add_argument("--transport", choices=tuple(Transport), default="tcp", help="of all workers (default: tcp)")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    chosen = [scenario for scenario in SCENARIOS if not options.scenario or scenario.name in options.scenario]
    base = Path(tempfile.mkdtemp(prefix="octaskly-chaos-"))
    # Commands of root's workers are other users, and leave lines below it.
    base.chmod(0o711)
    say(
        f"chaos: seed {seed}, {len(chosen)} scenarios, {'short' if options.short else 'long'} form, {options.transport}, in {base}"
    )

    began = time.monotonic()
    run = Run(Form(options.short), seed, base, options.transport)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ThreadPoolExecutor(max(1, options.at_once)) as pool:
            try:
                verdicts = list(pool.map(run.play, [item for item in chosen if not item.is_alone]))
            except BaseException:
                # An interrupt, or a defect of this program: either way nothing may go on running.
                run.abandon()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        verdicts += [run.play(scenario) for scenario in chosen if scenario.is_alone]
    except KeyboardInterrupt:
        say(f"chaos: interrupted; seed {seed}, folder {base}")
        return 130
    return summarise(verdicts, seed, base, time.monotonic() - began)


class Run:
    """One round of scenarios."""

    def __init__(self, form: Form, seed: int, base: Path, transport: str) -> None:
        self._form = form
        self._seed = seed
        self._base = base
        self._variables = {"OCTASKLY_TRANSPORT": transport}
        self._scenes: list[Field] = []

    def abandon(self) -> None:
        """End every program, so that the scenarios fail soon and clear up what they made."""
        for scene in self._scenes:
            scene.abandon()

    def play(self, scenario: Scenario) -> Verdict:
        """Play one scenario to its end and check it; whatever goes wrong is in the verdict."""
        folder = self._base / scenario.name
        verdict = Verdict(scenario.name, folder)
        began = time.monotonic()
        try:
            variables = {**scenario.variables(self._form), **self._variables}
            scene = Field(folder, scenario.name, self._seed, variables)
            self._scenes.append(scene)
            verdict.counts, verdict.notes = scene.counts, scene.notes
            with ExitStack() as stack:
                stack.callback(scene.close_files)
                stack.enter_context(scenario.around(scene))
                stack.callback(scene.abandon)
                scenario.play(scene, self._form)
                scene.settle()
                verdict.findings = check(scene)
        except Skipped as reason:
            verdict.skipped = str(reason)
        except Exception as error:  # noqa: BLE001 - whatever breaks is the scenario's failure
            (folder / "failure").write_text(traceback.format_exc())
            first_line = (str(error).strip() or "no words").splitlines()[0]
            verdict.findings.broken += [
                *scene.broken,
                f"{type(error).__name__}: {first_line} (more in {folder}/failure)",
            ]
        verdict.seconds = time.monotonic() - began
        say(f"chaos: {scenario.name}: {verdict.word} in {verdict.seconds:.0f} s")
        if verdict.is_ok:
            shutil.rmtree(folder, ignore_errors=True)
        return verdict


def summarise(verdicts: list[Verdict], seed: int, base: Path, seconds: float) -> int:
    """Print the table and what lies behind it; return the exit code."""
    say(f"\n{table(verdicts)}\n")
    for verdict in verdicts:
        for note in verdict.notes:
            say(f"{verdict.name}: {note}")
        if verdict.skipped:
            say(f"{verdict.name}: skipped: {verdict.skipped}")
        for text in verdict.findings.broken:
            say(f"{verdict.name}: BROKEN: {text}")
    failed = [verdict.name for verdict in verdicts if not verdict.is_ok]
    skipped = sum(bool(verdict.skipped) for verdict in verdicts)
    aside = f", {skipped} skipped" if skipped else ""
    if failed:
        say(f"chaos: FAILED: {', '.join(failed)} of {len(verdicts)} scenarios{aside}; seed {seed}, folder {base}")
        return 1
    shutil.rmtree(base, ignore_errors=True)
    say(f"chaos: {len(verdicts)} scenarios{aside}, seed {seed}, {seconds:.0f} s: ok")
    return 0


def say(text: str) -> None:
    """Print at once: this may stand in a log that somebody follows."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
