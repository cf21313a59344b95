"""Guards, redaction, the audit log, and what left the store."""
