"""Signed files of memories, and the folder that publishes them."""
