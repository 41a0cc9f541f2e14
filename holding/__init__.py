"""The group: units, bodies, roles, divisions, seats, agents, blueprints, mandates."""
