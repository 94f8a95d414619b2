"""Identifiers are drawn many at a time, and never twice."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

from modelyard.kit.ids import DRAWN, new_id


def test_ids_of_many_threads_are_hex_and_all_different():
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda _: new_id(), range(DRAWN * 20))]
    assert len({*found}) == len(found)
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)


def test_a_forked_process_draws_ids_of_its_own():
    new_id()  # some more wait now
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(new_id() for _ in range(DRAWN)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        theirs = stream.read().decode()
    os.waitpid(child, 0)
    assert len(theirs) == 32 * DRAWN
    ours = {new_id() for _ in range(DRAWN)}
    assert ours.isdisjoint(theirs[at : at + 32] for at in range(0, len(theirs), 32))
