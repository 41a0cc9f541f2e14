"""What spans the apps: executive overview, organisation, agents, live stream, health."""
