"""A shipped conversation and what Lamina does with it, step by step, measured: the job of ``lamina demo``."""
