"""`manage.py arp_ensure`: the name under which the CronJob `arp-ensure-1500` calls `auto_replacement`."""

from subsidiaries.replacement.management.commands.auto_replacement import Command

__all__ = ["Command"]
