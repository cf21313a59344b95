"""One file a resource; ``app.py`` puts them together."""
