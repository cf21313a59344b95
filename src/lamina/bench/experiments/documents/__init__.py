"""Documents as a few vectors."""
