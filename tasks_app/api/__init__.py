"""REST of tasks."""
