"""What hosts tell of commands: nothing of its own, all of it is in presence."""

from subsidiaries.commands import hearing
from subsidiaries.replacement import services as replacement

replacement.after_reports(hearing.note_obedience)
