"""REST parts that every app shares, and the sign-in routes."""
