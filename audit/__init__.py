"""The ledger: append-only, written in each change's own transaction, sealed into a Merkle log (RFC 6962)."""
