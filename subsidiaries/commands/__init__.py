"""Commands to agents and their hosts: what was ordered, by whom, why, and how far it has been obeyed."""
