"""Authority: who may decide what, up to which value, and the approvals that were asked for."""
