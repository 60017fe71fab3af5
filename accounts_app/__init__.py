"""Who may: roles, permissions, tokens, lockout. Knows nothing else of ours."""
