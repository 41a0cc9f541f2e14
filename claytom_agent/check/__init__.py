"""The conformance check: is the agent at this address what protocol.md 10 calls L0, L1, L2 or L3?"""

from claytom_agent.check.findings import LEVELS, Finding, Level, Report, Verdict
from claytom_agent.check.levels import check_agent
from claytom_agent.check.observer import CheckOptions

__all__ = ["LEVELS", "CheckOptions", "Finding", "Level", "Report", "Verdict", "check_agent"]
