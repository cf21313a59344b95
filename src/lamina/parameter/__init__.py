"""Memories as parameters: what a model knows without being told again. Adapters, how they are made and checked."""
