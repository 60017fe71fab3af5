"""What was measured: vitals over time, counts and durations, for charts and for Prometheus."""
