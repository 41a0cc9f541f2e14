"""Decisions that stand over the whole group: controls, boards, OKRs, policies, data governance (CGF)."""
