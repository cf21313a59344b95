"""Caches under a byte budget: what a layer keeps, which tokens matter, how layers share, and attention over it all."""
