"""REST routes of the audit trail."""
