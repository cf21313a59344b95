"""Memories of activations that are taught to recall."""
