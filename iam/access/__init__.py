"""People, their sign-in, and the tokens of integrations."""
