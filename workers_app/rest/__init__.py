"""REST routes of workers and join tokens."""
