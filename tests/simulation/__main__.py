"""`make simulate SEEDS=0:100000`: tells stories until one breaks a promise, then prints its seed and trace."""

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
        again = f"make simulate SEEDS={seed} TRACE=1"
        return Verdict(None, f"seed {seed}: {type(error).__name__}: {error}\n{trace}\nagain: {again}")


def main() -> int:
    """Run the seeds that are asked for; return 1 at the first failure."""
    parser = argparse.ArgumentParser(prog="make simulate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0:2000", help="one seed, or FIRST:AFTER_LAST")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of a single seed")
    options = parser.parse_args()
    first, _, after_last = options.seeds.partition(":")
    seeds = range(int(first), int(after_last) if after_last else int(first) + 1)
    if options.trace:
        return _show(seeds[0])
    began = time.monotonic()
    stories: list[Story] = []
    with multiprocessing.Pool() as pool:
        for verdict in pool.imap_unordered(run_seed, seeds, chunksize=20):
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
        f"{sum(story.steps for story in stories)} steps, "
        f"{sum(story.virtual_s for story in stories) / 3600:.0f} virtual hours in {elapsed_s:.0f} s: all promises held"
    )
    return 0


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
