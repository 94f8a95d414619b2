"""The garbage collector of a process that has started and now serves."""

import gc

SERVING = (20_000, 20, 20)
"""Allocations before a collection, and collections before an older generation's: requests leave few cycles behind."""


def settle() -> None:
    """Keep what the start made out of every later collection, and collect seldom.

    Walking through the imported libraries and a loaded model again and again costs a tenth of a busy server's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SERVING)
