"""TCP ports on the loopback: the usual one when it is free, any other when it is not."""

import socket

from deployment.embedded.errors import EmbeddedError

LOOPBACK = "127.0.0.1"


class Reservation:
    """A port that nobody else gets until ``release``, called just before the server takes it."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = listener
        self.port: int = listener.getsockname()[1]

    def release(self) -> None:
        """Let the server have it; a second call does nothing."""
        self._socket.close()


def reserve(preferred: int = 0) -> Reservation:
    """Reserve ``preferred``, or any free port when it is 0 or taken."""
    if preferred:
        try:
            return _bind(preferred)
        except OSError:
            pass  # somebody listens there: any other port serves as well
    return _bind(0)


def reserve_exactly(port: int) -> Reservation:
    """Reserve this port and no other.

    Raises:
        EmbeddedError: somebody listens there.
    """
    try:
        return _bind(port)
    except OSError as error:
        raise EmbeddedError(f"Port {port} is taken ({error.strerror}). Choose another one.") from error


def is_taken(port: int) -> bool:
    """Whether somebody listens on the port."""
    try:
        _bind(port).release()
    except OSError:
        return True
    return False


def _bind(port: int) -> Reservation:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if port:
            # Connections of the last run may still be in TIME_WAIT. With this option two sockets may bind
            # the same port as long as none listens, therefore it listens.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        if port:
            listener.listen(1)
    except OSError:
        listener.close()
        raise
    return Reservation(listener)
