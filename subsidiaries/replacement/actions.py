"""What approvals may do to ARP, and what else its cycles do; imported when the apps are loaded."""

from iam.authority.services import register_action
from subsidiaries.replacement import caps, delegating, rollouts, services, staffing, versions

register_action(name=caps.ACTION, verify=caps.verify, run=caps.run, confirm=caps.confirm)
register_action(name=versions.ACTION, verify=versions.verify, run=versions.run, confirm=versions.confirm)
register_action(name=delegating.ACTION, verify=delegating.verify, run=delegating.run, confirm=delegating.confirm)
register_action(name=staffing.ACTION, verify=staffing.verify, run=staffing.run, confirm=staffing.confirm)
services.in_each_cycle(rollouts.advance)
