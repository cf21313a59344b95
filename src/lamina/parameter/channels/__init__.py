"""Channels between attention heads: read off the weights, tested by a gradient, changed by rank-1 edits."""
