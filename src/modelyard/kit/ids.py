"""Random identifiers."""

import os
import secrets

DRAWN = 256
"""Identifiers drawn from the kernel at a time: a system call for each was a thirtieth of a busy gateway's time."""
_drawn: list[str] = []
os.register_at_fork(after_in_child=_drawn.clear)


def new_id() -> str:
    """32 lower-case hex characters, 128 random bits."""
    try:
        return _drawn.pop()
    except IndexError:
        digits = os.urandom(16 * DRAWN).hex()
        _drawn.extend(digits[at : at + 32] for at in range(32, len(digits), 32))
        return digits[:32]


def new_token() -> str:
    """URL-safe secret of 256 random bits."""
    return secrets.token_urlsafe(32)


_FIRST = "bold brave calm clean deft eager fair fleet grand keen kind loud merry neat proud quick rare sleek wise"
_SECOND = "ant bee boar crab crow deer dove elk fox goat hare hawk ibis kite lark lynx mole newt owl ram seal wren"


def random_name() -> str:
    """A name to tell runs apart by, such as `keen-lynx-204`."""
    number = 100 + secrets.randbelow(900)
    return f"{secrets.choice(_FIRST.split())}-{secrets.choice(_SECOND.split())}-{number}"
