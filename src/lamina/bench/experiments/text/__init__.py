"""What people say, and what is kept of it."""
