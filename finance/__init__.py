"""The group's value: drivers, projections, scenarios, simulation and their artefacts."""
