"""Random identifiers."""

import secrets


def new_id() -> str:
    """32 lower-case hex characters, 128 random bits."""
    return secrets.token_hex(16)


def new_token() -> str:
    """URL-safe secret of 256 random bits."""
    return secrets.token_urlsafe(32)


_FIRST = "bold brave calm clean deft eager fair fleet grand keen kind loud merry neat proud quick rare sleek wise"
_SECOND = "ant bee boar crab crow deer dove elk fox goat hare hawk ibis kite lark lynx mole newt owl ram seal wren"


def random_name() -> str:
    """A name to tell runs apart by, such as `keen-lynx-204`."""
    number = 100 + secrets.randbelow(900)
    return f"{secrets.choice(_FIRST.split())}-{secrets.choice(_SECOND.split())}-{number}"
