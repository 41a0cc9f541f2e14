"""What can go wrong on this machine, in sentences for its operator."""


class EmbeddedError(Exception):
    """A server or process cannot run here; the text names the cause and the remedy."""
