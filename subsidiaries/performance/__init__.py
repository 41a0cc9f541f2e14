"""PMON: what agents claim, minute by minute."""
