"""Ports for servers that tests start: nobody else is given one between its choice and its server."""

import os
import random
import socket
from collections.abc import Iterator

PORTS = range(12_000, 32_000)
"""Below those that the system gives to outgoing connections and to who asks for any."""
EACH = 2_000
"""How far the ports of two processes of one run are apart."""


def _ports() -> Iterator[int]:
    """All of them, each process of a run from a place of its own, and each run from another."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    place = random.Random(run).randrange(len(PORTS)) + EACH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        yield PORTS[place % len(PORTS)]
        place += 1


_next = _ports()


def free_port() -> int:
    """A port that this run takes for nothing else; it is free again once its server is stopped."""
    for _ in PORTS:
        port = next(_next)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
