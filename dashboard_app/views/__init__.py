"""The pages: each checks who may, reads what is there, and leaves the rest to its template and script."""
