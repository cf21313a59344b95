"""Steps on memory, declared as data, written together."""
