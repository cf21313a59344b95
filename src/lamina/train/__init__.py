"""Learning within a budget."""
