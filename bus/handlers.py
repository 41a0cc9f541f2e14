"""What the bus itself takes from its streams: the server's advisories about messages that were given up."""

from bus.exhausted import note_advisories
from bus.feeds import Feed, register

register(
    Feed(stream="CT_ADVISORIES", consumer="portal-advisories", handle=note_advisories, batch=500, process="bus")
)
