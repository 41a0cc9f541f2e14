"""Agents that people bring: seats given out against a token, and who speaks from them."""
