"""Where memories live: the store protocol, the embedded SQLite store, and the indexes derived from it."""
