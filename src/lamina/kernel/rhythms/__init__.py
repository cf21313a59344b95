"""What the consolidation clock drives."""
