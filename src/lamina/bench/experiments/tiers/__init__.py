"""Moving memories between forms."""
