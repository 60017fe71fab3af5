"""Sockets, threads and clocks around the pure core."""
