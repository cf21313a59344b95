"""What attention heads say to each other."""
