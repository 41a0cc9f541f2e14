"""Who may do what: people and credentials (access), delegation and approvals (authority)."""
