"""Gives the same commands to other systems: run under the Python of build/bench-peers, with what stands in peers-requirements.txt.

    build/bench-peers/bin/python -m benchmarks.peer_programs hyperqueue 5000
    build/bench-peers/bin/python -m benchmarks.peer_programs dask 5000 --workers 4 --threads 1
    build/bench-peers/bin/python -m benchmarks.peer_programs dask-latency 300

The first two write `begin` and `end` around what is to be measured, the last one the seconds of each command.
Neither system puts a command into a sandbox, and Dask keeps nothing on disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

COMMAND = ["sh", "-c", "true"]
WARM_UP = 1000


def _mark(word: str) -> None:
    print(word, flush=True)


def hyperqueue(count: int, cores: int) -> None:
    """Submit one job of so many commands to a server and a worker of its own."""
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with LocalCluster() as cluster, tempfile.TemporaryDirectory(prefix="octaskly-bench-") as folder:
        cluster.start_worker(WorkerConfig(cores=cores))
        client = cluster.client()
        for tasks, is_measured in ((WARM_UP, False), (count, True)):
            if is_measured:
                _mark("begin")
            job = Job(default_workdir=folder)
            for _ in range(tasks):
                job.program(COMMAND, stdout=None, stderr=None)  # Else it makes two files for each.
            client.wait_for_jobs([client.submit(job)])
        _mark("end")


def run_command(_: int) -> int:
    """Run it as a Dask task would."""
    return subprocess.run(COMMAND, stdin=subprocess.DEVNULL, check=False).returncode


def dask(count: int, workers: int, threads: int, *, is_latency: bool) -> None:
    """Map the commands over a scheduler and workers in processes of their own; or submit them one after another."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(run_command, range(WARM_UP), pure=False))
        if is_latency:
            for place in range(count):
                began_at = time.perf_counter()
                client.submit(run_command, place, pure=False).result()
                _mark(str(time.perf_counter() - began_at))
            return
        _mark("begin")
        codes = client.gather(client.map(run_command, range(count), pure=False))
        _mark("end")
        if any(codes):
            sys.exit("a command failed")


def main() -> None:
    """Be the peer that the arguments name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=["hyperqueue", "dask", "dask-latency"])
    parser.add_argument("count", type=int)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.peer == "hyperqueue":
        hyperqueue(options.count, options.workers * options.threads)
    else:
        dask(options.count, options.workers, options.threads, is_latency=options.peer == "dask-latency")


if __name__ == "__main__":  # Dask's processes import this file anew.
    main()
