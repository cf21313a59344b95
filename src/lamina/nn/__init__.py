"""Layers that remember, and the one small decoder around them."""
