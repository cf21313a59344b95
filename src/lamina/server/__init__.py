"""Faces over HTTP. ``app.py`` serves the verbs of ``Memory`` as JSON, on this machine only."""
