"""Mem0 with a language model: prompts, what is believed of the answers, and what happens when there is none."""
