"""Joining a machine in one line: the scripts, the bundles that they fetch, and who serves both."""
