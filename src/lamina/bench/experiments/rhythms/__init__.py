"""The clock of upkeep."""
