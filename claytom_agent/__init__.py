"""Agent SDK and agent host of the holding: the protocol `claytom/1` over NATS, without Django."""

__version__ = "0.1.0"
