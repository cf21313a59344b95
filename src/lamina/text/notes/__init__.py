"""The parts of A-MEM: how a note is written, what links it, how it learns, and how links are followed."""
