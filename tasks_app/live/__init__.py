"""Following tasks while they run."""
