"""Rooms of ``lamina.store.postgres``: schema, connections, filters, words, vectors and tensors in PostgreSQL."""
