"""Proofs: every claim of the project is a number measured against a real peer, by one command.

``card`` says what a claim is, ``catalog`` finds cards by paper name, ``runner`` runs them and keeps the
results; ``conversations`` and ``throughput`` are the harnesses for the front door.
"""
