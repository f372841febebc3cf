"""The audit trail: what was done by whom, in chains that show when a row was touched."""
