"""The worker: runs the dispatcher's commands on this machine. Imports no Django."""
