"""Decoders whose layers remember, compared in one trunk."""
