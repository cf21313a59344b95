"""What the consolidation clock drives, and the clocks it is compared with."""
