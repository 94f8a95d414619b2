"""Sockets that a server listens at, made by itself or handed down by the process that keeps it running."""

import socket

BACKLOG = 2048


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address; 0 picks a free port. Raises OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


class Listening:
    """A listening socket that outlives the processes that accept at it: meanwhile callers wait in its backlog."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._held: socket.socket | None = None

    def descriptor(self) -> int:
        """What a child process inherits; the socket is made if need be. Raises OSError."""
        if self._held is None:
            made = bound(self._host, self._port)
            try:
                made.listen(BACKLOG)
            except OSError:
                made.close()
                raise
            self._held = made
        return self._held.fileno()

    def close(self) -> None:
        """Refuse callers, unless a process accepts still; those that wait are cut off."""
        if self._held is not None:
            self._held.close()
            self._held = None
