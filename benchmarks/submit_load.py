"""Submits tasks one by one over some connections at once, in a process of its own; part of benchmarks.submit.

The Authorization header comes on stdin. Prints the seconds of all together, and of each request.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from benchmarks.http_line import Line

BODY = json.dumps({"command": "true"}).encode()


def main() -> None:
    """Submit as the arguments say: address and port, connections, tasks over each."""
    host, connections, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    authorization = sys.stdin.read().strip()
    times: list[float] = []
    ready = threading.Barrier(connections + 1)

    def submit() -> None:
        with Line(host, authorization) as line:
            ready.wait()
            for _ in range(count):
                began_at = time.perf_counter()
                line.post("/api/v1/tasks", BODY)
                times.append(time.perf_counter() - began_at)

    threads = [threading.Thread(target=submit) for _ in range(connections)]
    for thread in threads:
        thread.start()
    ready.wait()
    began_at = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began_at
    if len(times) != connections * count:
        raise SystemExit("a request failed")
    print(json.dumps({"seconds": seconds, "times": times}))


if __name__ == "__main__":
    main()
