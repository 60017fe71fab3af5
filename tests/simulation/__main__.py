"""`make simulate SEEDS=100000`: tells stories until one breaks a promise, then prints its seed and trace."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from dataclasses import dataclass

from tests.simulation.scenario import Story, tell


@dataclass(frozen=True, slots=True)
class Verdict:
    """A story, or how it failed."""

    story: Story | None
    failure: str = ""


def run_seed(seed: int, trace_lines: int = 60) -> Verdict:
    """Let one story happen; a failure carries the end of its trace and how to see all of it."""
    cluster, happen = tell(seed, trace_lines)
    try:
        return Verdict(happen())
    except Exception as error:  # noqa: BLE001 - whatever breaks in a story is its failure
        trace = "\n".join(cluster.world.trace or ())
        again = f"the whole story: make simulate SEED={seed}"
        return Verdict(None, f"seed {seed}: {type(error).__name__}: {error}\n{trace}\n{again}")


def main() -> int:
    """Run the seeds that are asked for; return 1 at the first failure."""
    parser = argparse.ArgumentParser(prog="make simulate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=_seeds, default="2000", help="how many, or FIRST:AFTER_LAST")
    parser.add_argument("--seed", type=int, help="only this one, with all of its trace")
    options = parser.parse_args()
    if options.seed is not None:
        return _show(options.seed)
    began = time.monotonic()
    stories: list[Story] = []
    with multiprocessing.Pool() as pool:
        for verdict in pool.imap_unordered(run_seed, options.seeds, chunksize=20):
            if verdict.story is None:
                print(verdict.failure)
                pool.terminate()
                return 1
            stories.append(verdict.story)
    elapsed_s = time.monotonic() - began
    print(
        f"{len(stories)} stories, {sum(story.tasks for story in stories)} tasks, "
        f"{sum(story.counts.executions for story in stories)} executions, "
        f"{sum(story.re_executions for story in stories)} of them again, "
        f"{sum(story.counts.kills for story in stories)} kills, "
        f"{sum(story.superseded for story in stories)} late outcomes, "
        f"{sum(story.suspensions for story in stories)} suspensions, "
        f"{sum(story.handed_back for story in stories)} given ahead in vain, "
        f"{sum(story.steps for story in stories)} steps, "
        f"{sum(story.virtual_s for story in stories) / 3600:.0f} virtual hours in {elapsed_s:.0f} s: all promises held"
    )
    return 0


def _seeds(text: str) -> range:
    try:
        first, colon, after_last = text.partition(":")
        return range(int(first), int(after_last)) if colon else range(int(first))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor FIRST:AFTER_LAST") from None


def _show(seed: int) -> int:
    cluster, happen = tell(seed, trace_lines=1_000_000)
    try:
        story = happen()
    finally:
        print("\n".join(cluster.world.trace or ()))
    print(story)
    return 0


if __name__ == "__main__":
    sys.exit(main())
