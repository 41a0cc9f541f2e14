"""How the portal runs: on one machine (embedded), and the artefacts for larger installations."""
