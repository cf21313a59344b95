"""What decides the form a memory is used in, and carries it out."""
