"""The whitelist of machines: registry, join tokens, admission."""
