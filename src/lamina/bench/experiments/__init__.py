"""Generators and experiments that the cards run."""
