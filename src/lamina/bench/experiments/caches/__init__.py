"""Caches in fewer bytes."""
