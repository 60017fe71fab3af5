"""The worker's doing: sockets, processes, files."""
