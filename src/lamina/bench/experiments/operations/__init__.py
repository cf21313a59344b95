"""Experts for the operations of a memory."""
