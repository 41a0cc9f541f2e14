"""What approvals may do to ARP; imported when the apps are loaded."""

from iam.authority.services import register_action
from subsidiaries.replacement import caps

register_action(name=caps.ACTION, verify=caps.verify, run=caps.run, confirm=caps.confirm)
