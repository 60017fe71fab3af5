"""Django's backend for SQLite, with a queue of this process's writers."""
