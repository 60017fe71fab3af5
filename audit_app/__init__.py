"""What happened: the append-only, hash-chained trail and its one writer."""
