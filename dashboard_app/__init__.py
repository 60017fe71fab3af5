"""What people look at: the pages and the live events that keep them current."""
